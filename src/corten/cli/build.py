"""`corten build`: BuildKit's protocol, unless DOCKER_BUILDKIT=0 or a flag of the classic builder asks for that one."""

import os

from corten.cli.args import Values, parse_bool
from corten.cli.errors import Failure
from corten.cli.main import Cli, usage_failure
from corten.cli.reference import check

# flags that one of the two builders alone has
CLASSIC = ("cpu-period", "cpu-quota", "cpu-shares", "cpuset-cpus", "cpuset-mems", "isolation", "memory", "memory-swap",
           "security-opt", "squash")
BUILDKIT = ("allow", "annotation", "attest", "build-context", "cache-to", "load", "metadata-file", "no-cache-filter",
            "output", "progress", "provenance", "push", "sbom", "secret", "ssh")


def build(cli: Cli, values: Values) -> int:
    """`corten build PATH | URL | -`"""
    for name in values.many("tag"):
        try:
            check(name)
        except Failure as failure:
            raise usage_failure(cli, f'invalid argument "{name}" for "-t, --tag" flag: {failure.text}') from None
    method = "check" if values.flag("check") else values.text("call") or "build"
    if method != "build":
        from corten.cli.build_check import call

        call(cli, values, method)
    elif _is_classic(values):
        from corten.cli.build_classic import build as classic

        classic(cli, values)
    else:
        _find_packages()
        from corten.cli.buildkit.run import build as buildkit

        return buildkit(cli, values)
    return 0


def _find_packages() -> None:
    """Make installed packages importable: the command line is started without them, since no other command needs any.

    Raises Failure when gRPC's are not installed.
    """
    from importlib.util import find_spec

    if find_spec("grpclib"):
        return
    import site

    site.main()
    if not find_spec("grpclib"):
        raise Failure("corten build needs the packages grpclib, h2 and protobuf (pip install corten), or "
                      "DOCKER_BUILDKIT=0 for the classic builder")


def _is_classic(values: Values) -> bool:
    """Raises Failure for flags that do not go together."""
    wanted = os.environ.get("DOCKER_BUILDKIT", "")
    try:
        named = bool(wanted) and not parse_bool(wanted)
    except ValueError:
        raise Failure(f"DOCKER_BUILDKIT environment variable expects boolean value: {wanted}") from None
    old = [name for name in CLASSIC if values.has(name)]
    if values.has("rm") and not values.flag("rm"):
        old.append("rm=false")
    new = [name for name in BUILDKIT if values.has(name)]
    if new and (old or named):
        other = f"--{old[0]} is the classic builder's" if old else "DOCKER_BUILDKIT=0 asks for the classic builder"
        raise Failure(f"the --{new[0]} option requires BuildKit, and {other}")
    return bool(old or named)
