"""The flags of `corten build` as BuildKit's front end has them. Source: moby/buildkit frontend/dockerui/config.go."""

import os

from corten.cli.args import Values, split_csv
from corten.cli.buildkit.asked import Asked
from corten.cli.buildkit.caches import read_caches
from corten.cli.buildkit.contexts import read_contexts
from corten.cli.buildkit.fields import fields
from corten.cli.buildkit.lent import read_lent
from corten.cli.buildkit.outputs import read_outputs
from corten.cli.create_request import host_entries, pairs, ulimit_entries
from corten.cli.errors import Failure


def read_flags(values: Values) -> Asked:
    """All that the command line says. Raises Failure; then nothing is left behind."""
    asked = Asked()
    _attributes(values, asked)
    _entitlements(values, asked)
    read_outputs(values, asked)
    read_caches(values.many("cache-from"), values.many("cache-to"), asked)
    read_lent(values.many("secret"), values.many("ssh"), asked)
    try:
        read_contexts(values, asked)
    except BaseException:
        drop_scratch(asked)
        raise
    return asked


def drop_scratch(asked: Asked) -> None:
    """Delete the folders made for this build."""
    from shutil import rmtree

    for path in asked.scratch:
        rmtree(path, ignore_errors=True)


def build_arguments(values: Values) -> dict[str, str]:
    """--build-arg: a name alone takes its value from here, or is left out; SOURCE_DATE_EPOCH is passed on."""
    found: dict[str, str] = {}
    for text in (*(["SOURCE_DATE_EPOCH"] if os.environ.get("SOURCE_DATE_EPOCH") else ()), *values.many("build-arg")):
        name, equals, value = text.partition("=")
        if equals:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    return dict(sorted(found.items()))


def _attributes(values: Values, asked: Asked) -> None:
    attributes = asked.attributes
    for name, value in build_arguments(values).items():
        attributes[f"build-arg:{name}"] = value
    for name, value in sorted(pairs(values.many("label")).items()):
        attributes[f"label:{name}"] = str(value)
    for flag, attribute in (("target", "target"), ("cgroup-parent", "cgroup-parent")):
        if values.text(flag):
            attributes[attribute] = values.text(flag)
    platforms = [one for text in values.many("platform") for one in split_csv(text)]
    if platforms:
        attributes["platform"] = ",".join(platforms)
    if values.flag("no-cache"):
        attributes["no-cache"] = ""
    elif values.many("no-cache-filter"):
        attributes["no-cache"] = ",".join(values.many("no-cache-filter"))
    if values.flag("pull"):
        attributes["image-resolve-mode"] = "pull"
    if hosts := host_entries(values):
        attributes["add-hosts"] = ",".join(text.replace(":", "=", 1) for text in hosts)
    if values.number("shm-size"):
        attributes["shm-size"] = str(values.number("shm-size"))
    if limits := ulimit_entries(values):
        attributes["ulimit"] = ",".join(f"{one['Name']}={one['Soft']}:{one['Hard']}" for one in limits)
    network = values.text("network")
    if network not in ("", "default"):
        attributes["force-network-mode"] = "sandbox" if network == "sandbox" else network
        if network == "host":
            asked.entitlements.add("network.host")
    _attest(values, attributes)
    _attest_as_usual(attributes)


def _attest(values: Values, attributes: dict[str, str]) -> None:
    """--attest type=KIND,…; --provenance and --sbom for short: a boolean, or fields."""
    for text in values.many("attest"):
        found = fields(text, "--attest")
        kind = found.pop("type", "")
        if not kind:
            raise Failure(f'ERROR: attestation type not specified: "{text}"')
        disabled = found.pop("disabled", "false").lower() in ("true", "1")
        attributes[f"attest:{kind}"] = "disabled=true" if disabled else _joined(found)
    for kind in ("provenance", "sbom"):
        text = values.text(kind)
        if not text:
            continue
        word = text.lower()
        if word in ("false", "0", "f"):
            attributes[f"attest:{kind}"] = "disabled=true"
        else:
            attributes[f"attest:{kind}"] = "" if word in ("true", "1", "t") else _joined(fields(text, f"--{kind}"))


def _attest_as_usual(attributes: dict[str, str]) -> None:
    """Without a word about it, provenance where it costs nothing (pushes), as buildx asks for it."""
    if "attest:provenance" not in attributes and not os.environ.get("BUILDX_NO_DEFAULT_ATTESTATIONS"):
        attributes["attest:provenance"] = "mode=min,inline-only=true"


def _joined(found: dict[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in found.items())


def _entitlements(values: Values, asked: Asked) -> None:
    for text in values.many("allow"):
        for name in split_csv(text):
            if not name.startswith(("network.host", "security.insecure", "device", "fs")):
                raise Failure(f"ERROR: unknown entitlement {name}")
            if not name.startswith("fs"):  # of bake files alone
                asked.entitlements.add(name)
