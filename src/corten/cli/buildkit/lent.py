"""`--secret` and `--ssh`: what RUN steps are lent from here. Source: docs.docker.com/build/building/secrets."""

import os

from corten.cli.buildkit.asked import Asked, Secret
from corten.cli.buildkit.fields import fields
from corten.cli.errors import Failure

SECRET_LIMIT = 500 * 1024


def read_lent(secrets: list[str], agents: list[str], asked: Asked) -> None:
    """Fill in both; what is named must be there now. Raises Failure."""
    for text in secrets:
        name, secret = _secret(text)
        asked.secrets[name] = secret
    for text in agents:
        name, equals, rest = text.partition("=")
        asked.agents[name] = _agent(name, rest.split(",") if equals and rest else [])


def _secret(text: str) -> tuple[str, Secret]:
    """`id=NAME[,src=FILE|,env=VARIABLE][,type=file|env]`; without a source, a variable called NAME, else a file."""
    found = fields(text, "--secret")
    kind = found.pop("type", "")
    name = found.pop("id", "")
    path = found.pop("src", "") or found.pop("source", "")
    variable = found.pop("env", "")
    if found:
        raise Failure(f"ERROR: unexpected key '{next(iter(found))}' in '{text}'")
    if kind not in ("", "file", "env"):
        raise Failure(f"ERROR: unsupported secret type \"{kind}\"")
    if not name:
        raise Failure(f"ERROR: secret id is missing in '{text}'")
    if kind == "env" and not variable:
        path, variable = "", path or name
    if not path and not variable:
        path, variable = ("", name) if name in os.environ else (name, "")
    if variable:
        return name, Secret(variable=variable)
    try:
        size = os.stat(path).st_size
    except OSError:
        raise Failure(f"ERROR: failed to stat {path}: stat {path}: no such file or directory") from None
    if size > SECRET_LIMIT:
        raise Failure(f"ERROR: secret {name} too big. max size 500KB")
    return name, Secret(path=os.path.abspath(path))


def _agent(name: str, paths: list[str]) -> list[str]:
    if not paths:
        if not os.environ.get("SSH_AUTH_SOCK"):
            raise Failure(f"ERROR: invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set (--ssh {name})")
        paths = [os.environ["SSH_AUTH_SOCK"]]
    for path in paths:
        if not os.path.exists(path):
            raise Failure(f"ERROR: failed to open {path}: open {path}: no such file or directory")
    return [os.path.abspath(path) for path in paths]
