"""`corten login`, `logout`, and the credentials the registry commands send: docker's own config.json.

Credential helpers (credsStore, credHelpers) are asked as docker asks them; a password is never printed.
"""

import os
import sys

from corten.base import jsonio
from corten.base.files import atomic_write
from corten.cli.args import Values
from corten.cli.errors import Failure
from corten.cli.main import Cli

HUB = "https://index.docker.io/v1/"

Config = dict[str, object]


def _base64(data: bytes, url: bool = False) -> str:
    import binascii

    text = binascii.b2a_base64(data, newline=False).decode()
    return text.replace("+", "-").replace("/", "_") if url else text


def key_of(registry: str) -> str:
    """The name of a registry in config.json."""
    return HUB if registry in ("", "docker.io", "index.docker.io", "registry-1.docker.io") else registry


def read(config_dir: str) -> Config:
    """The user's config.json; empty when there is none. Raises Failure when it is broken."""
    path = f"{config_dir}/config.json"
    try:
        with open(path, encoding="utf-8") as file:
            found = jsonio.loads(file.read() or "{}")
    except OSError:
        return {}
    except ValueError as error:
        raise Failure(f"WARNING: Error loading config file: {path}: {error}") from None
    return found if isinstance(found, dict) else {}


def _helper(name: str, action: str, text: str) -> tuple[str, str]:
    """(what a credential helper says, what went wrong): docker-credential-helpers' protocol, in docker's words."""
    import subprocess

    program = f"docker-credential-{name}"
    try:
        done = subprocess.run([program, action], input=text, capture_output=True, text=True, check=False)
    except OSError:
        return "", f'err: exec: "{program}": executable file not found in $PATH, out: ``'
    output = done.stdout.strip()
    return output, f"err: exit status {done.returncode}, out: `{output}`" if done.returncode else ""


def _ask_helper(name: str, key: str) -> Config:
    output, fault = _helper(name, "get", key)
    if fault:
        if "credentials not found" not in output:
            sys.stderr.write(f"WARNING: error getting credentials - {fault}\n")
        return {}
    try:
        found = jsonio.loads(output)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def _section(config: Config, name: str) -> Config:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def credentials(config_dir: str, registry: str) -> Config:
    """What AuthConfig holds for a registry; empty for none."""
    config = read(config_dir)
    key = key_of(registry)
    helper = _section(config, "credHelpers").get(key) or config.get("credsStore")
    if helper:
        found = _ask_helper(str(helper), key)
        if found.get("Secret"):
            secret = str(found["Secret"])
            if found.get("Username") == "<token>":
                return {"identitytoken": secret, "serveraddress": key}
            return {"username": found.get("Username", ""), "password": secret, "serveraddress": key}
    auths = _section(config, "auths")
    entry = auths.get(key) or auths.get(f"https://{key}") or auths.get(f"http://{key}")
    if not isinstance(entry, dict):
        return {}
    import binascii

    auth = str(entry.get("auth", ""))
    try:
        user, _, password = binascii.a2b_base64(auth).decode("utf-8", "replace").partition(":")
    except ValueError:
        user, password = "", ""
    found = {"username": user, "password": password.rstrip("\0"), "serveraddress": key}
    if entry.get("identitytoken"):
        found = {"identitytoken": entry["identitytoken"], "username": user, "serveraddress": key}
    return found if user or entry.get("identitytoken") else {}


def header_for(config_dir: str, registry: str) -> str:
    """X-Registry-Auth for a registry: URL-safe base64 of the credentials' JSON."""
    return _base64(jsonio.dumps(credentials(config_dir, registry)).encode(), url=True)


def all_for_build(config_dir: str) -> str:
    """X-Registry-Config for a build: the credentials of every registry known."""
    config = read(config_dir)
    names = {*_section(config, "auths"), *_section(config, "credHelpers")}
    found = {name: credentials(config_dir, name) for name in sorted(names)}
    return _base64(jsonio.dumps({name: one for name, one in found.items() if one}).encode(), url=True)


def _save(config_dir: str, config: Config) -> None:
    os.makedirs(config_dir, mode=0o700, exist_ok=True)
    path = os.path.realpath(f"{config_dir}/config.json")
    atomic_write(path, jsonio.indented(config, 8).replace(" " * 8, "\t").encode())


def _ask(values: Values) -> tuple[str, str]:
    user, password = values.text("username"), values.text("password")
    if password:
        sys.stderr.write("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n")
        if values.flag("password-stdin"):
            raise Failure("--password and --password-stdin are mutually exclusive")
    if values.flag("password-stdin"):
        if not user:
            raise Failure("Must provide --username with --password-stdin")
        password = sys.stdin.read().rstrip("\n").rstrip("\r")
    if (not user or not password) and not os.isatty(0):
        raise Failure("Error: Cannot perform an interactive login from a non TTY device")
    if not user:
        sys.stdout.write("Username: ")
        sys.stdout.flush()
        user = sys.stdin.readline().strip()
        if not user:
            raise Failure("Error: Non-null Username Required")
    if not password:
        import getpass

        password = getpass.getpass("Password: ")
        if not password:
            raise Failure("Error: Password Required")
    return user, password


def login(cli: Cli, values: Values) -> None:
    """`corten login [SERVER]`. POST /auth; the engine tries the credentials."""
    server = values.rest[0] if values.rest else ""
    server = server.removeprefix("https://").removeprefix("http://").rstrip("/") if server != HUB else ""
    key = key_of(server)
    user, password = _ask(values)
    found = cli.client.call("POST", "/auth", None, {"username": user, "password": password, "serveraddress": key})
    token = str(found.get("IdentityToken") or "") if isinstance(found, dict) else ""
    _keep(cli, key, user, password, token)
    status = found.get("Status") if isinstance(found, dict) else ""
    cli.out(str(status or "Login Succeeded"))


def _keep(cli: Cli, key: str, user: str, password: str, token: str) -> None:
    """A login that worked: to the helper where one is set, else into config.json."""
    config = read(cli.config_dir)
    helper = _section(config, "credHelpers").get(key) or config.get("credsStore")
    entry: Config = {}
    if helper:
        _, fault = _helper(str(helper), "store", jsonio.dumps(
            {"ServerURL": key, "Username": "<token>" if token else user, "Secret": token or password}))
        if fault:
            raise Failure(f"Error saving credentials: error storing credentials - {fault}")
    else:
        entry["auth"] = _base64(f"{user}:{'' if token else password}".encode())
        if token:
            entry["identitytoken"] = token
        else:
            cli.error(f"\nWARNING! Your credentials are stored unencrypted in '{cli.config_dir}/config.json'.")
    auths = _section(config, "auths")
    auths[key] = entry
    config["auths"] = auths
    _save(cli.config_dir, config)


def logout(cli: Cli, values: Values) -> None:
    """`corten logout [SERVER]`"""
    server = values.rest[0] if values.rest else ""
    key = key_of(server)
    config = read(cli.config_dir)
    cli.out(f"Removing login credentials for {server or HUB}")
    helper = _section(config, "credHelpers").get(key) or config.get("credsStore")
    if helper:
        _, fault = _helper(str(helper), "erase", key)
        if fault:
            cli.error(f"WARNING: could not erase credentials:\n{key}: error erasing credentials - {fault}")
    auths = _section(config, "auths")
    for name in (key, f"https://{key}", f"http://{key}"):
        auths.pop(name, None)
    if "auths" in config:
        config["auths"] = auths
        _save(cli.config_dir, config)
