"""RUN --mount: what a step is given for its time alone: bind, cache, tmpfs, secret. Pure.

Source: Dockerfile reference, "RUN --mount"; error texts are BuildKit's where it has one.
"""

from __future__ import annotations

import csv
import posixpath

from corten.base.errors import InvalidArgument, Unsupported
from corten.base.units import parse_bytes, parse_number
from corten.build.stage import BuildImage

_ALIASES = {"dst": "target", "destination": "target", "src": "source", "ro": "readonly", "readwrite": "rw"}
_KEYS = {
    "bind": {"target", "source", "from", "rw", "readonly"},
    "cache": {"id", "target", "readonly", "sharing", "from", "source", "mode", "uid", "gid", "rw"},
    "tmpfs": {"target", "size"},
    "secret": {"id", "target", "source", "required", "mode", "uid", "gid", "env"},
}
_FLAGS = {"rw", "readonly", "required"}
_SHARING = ("shared", "private", "locked")


class RunMount:
    """One mount: `kind` and `values` as written, `target` absolute; `image` what a bind comes from, None: the context.

    `path` is the place in the context or in the image.
    """

    __slots__ = ("image", "kind", "path", "target", "text", "values")

    def __init__(self, text: str, kind: str, values: dict[str, str], target: str) -> None:
        self.text, self.kind, self.values, self.target = text, kind, values, target
        self.path = posixpath.normpath("/" + values.get("source", "")).lstrip("/") if kind == "bind" else ""
        self.image: BuildImage | None = None

    def number(self, name: str, default: int, base: int = 10) -> int:
        """A numeric value. Raises InvalidArgument."""
        text = self.values.get(name)
        if text is None:
            return default
        if base == 8:
            if not text or len(text) > 5 or text.strip("01234567"):
                raise InvalidArgument(f'invalid value {text} for {name}')
            return int(text, 8)
        return parse_number(text, name)

    @property
    def read_only(self) -> bool:
        """A bind is, unless it says `rw`; a cache when it says so."""
        if self.kind == "bind":
            return self.values.get("rw") != "true"
        return self.values.get("readonly") == "true"

    @property
    def size_bytes(self) -> int:
        """Of a tmpfs; 0: no limit."""
        return parse_bytes(self.values["size"]) if "size" in self.values else 0


def parse_mount(text: str, working_dir: str) -> RunMount:
    """The value of one --mount, variables expanded. Raises InvalidArgument, Unsupported."""
    values: dict[str, str] = {}
    for field in next(csv.reader([text]), []):
        name, separator, value = field.partition("=")
        name = _ALIASES.get(name.strip().lower(), name.strip().lower())
        if not separator and name not in _FLAGS:
            raise InvalidArgument(f"invalid field '{field}' must be a key=value pair")
        values[name] = value if separator else "true"
    kind = values.pop("type", "bind")
    if kind == "ssh":
        raise Unsupported("RUN --mount=type=ssh is not done yet")
    if kind not in _KEYS:
        raise InvalidArgument(f'unsupported mount type "{kind}"')
    for name in values:
        if name not in _KEYS[kind]:
            raise InvalidArgument(f"unexpected key '{name}' in '{name}={values[name]}'")
    _check(kind, values)
    target = values.get("target", "")
    if kind == "secret":
        values.setdefault("id", posixpath.basename(target or values.get("source", "")))
        target = target or ("" if "env" in values else f"/run/secrets/{values['id']}")
    if not target and "env" not in values:
        raise InvalidArgument(f"{kind} mount: target is required")
    if target:
        target = posixpath.normpath(posixpath.join(working_dir or "/", target))
    return RunMount(text, kind, values, target)


def _check(kind: str, values: dict[str, str]) -> None:
    if kind == "bind" and values.get("rw") == "true":
        raise Unsupported("RUN --mount=type=bind,rw is not done yet")
    if kind == "cache" and ("from" in values or "source" in values):
        raise Unsupported("RUN --mount=type=cache with from or source is not done yet")
    if values.get("sharing", "shared") not in _SHARING:
        raise InvalidArgument(f'unsupported sharing value "{values["sharing"]}"')
    if kind == "secret" and not (values.get("id") or values.get("target") or values.get("source")):
        raise InvalidArgument("invalid secret mount: id or target is required")
