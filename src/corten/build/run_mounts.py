"""RUN --mount: what a step is given for its time alone: bind, cache, tmpfs, secret, ssh. Pure.

Source: Dockerfile reference, "RUN --mount"; error texts are BuildKit's.
"""

from __future__ import annotations

import csv
import posixpath
import re
from collections.abc import Callable

from corten.base.errors import InvalidArgument
from corten.base.units import parse_bytes
from corten.build.context import Tree
from corten.build.line import suggestion
from corten.build.stage import BuildImage

KINDS = ("bind", "cache", "tmpfs", "secret", "ssh")
_ALIASES = {"dst": "target", "destination": "target", "src": "source", "ro": "readonly", "readwrite": "rw"}
_KEYS = ("type", "from", "source", "target", "readonly", "id", "sharing", "required", "size", "mode", "uid", "gid",
         "src", "dst", "destination", "ro", "rw", "readwrite", "env")
_FLAGS = ("rw", "readonly", "required")
_ONLY = {"size": ("tmpfs",), "required": ("secret", "ssh")}  # keys that other kinds do not know
_OWNED = ("secret", "ssh", "cache")  # have mode, uid and gid
_SHARING = ("shared", "private", "locked")
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")


class RunMount:
    """One mount: `kind` and `values` as written, `target` absolute; a bind comes from `image`, or from `tree`.

    `path` is the place in the context or in the image.
    """

    __slots__ = ("image", "kind", "path", "target", "text", "tree", "values")

    def __init__(self, text: str, kind: str, values: dict[str, str], target: str) -> None:
        self.text, self.kind, self.values, self.target = text, kind, values, target
        self.path = posixpath.normpath("/" + values.get("source", "")).lstrip("/") if kind in ("bind", "cache") else ""
        self.image: BuildImage | None = None
        self.tree: Tree | None = None

    def number(self, name: str, default: int, base: int = 10) -> int:
        """A numeric value."""
        text = self.values.get(name)
        if text is None:
            return default
        return int(text, base)

    @property
    def read_only(self) -> bool:
        """What the last of `rw` and `readonly` says; else a bind is and a cache is not."""
        return self.values.get("readonly", "false" if self.kind in ("cache", "tmpfs") else "true") == "true"

    @property
    def size_bytes(self) -> int:
        """Of a tmpfs; 0: no limit."""
        return parse_bytes(self.values["size"]) if "size" in self.values else 0


def mount_values(text: str, expand: Callable[[str], str] = str) -> tuple[str, dict[str, str]]:
    """(kind, the other values) of one --mount, keys by their first names. Raises InvalidArgument."""
    kind = "bind"
    values: dict[str, str] = {}
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise InvalidArgument(f"failed to parse csv mounts: {error}") from None
    for field in fields:
        key, equals, value = field.partition("=")
        name = _ALIASES.get(key.lower(), key.lower())
        if not equals and name not in _FLAGS:
            raise InvalidArgument(f"invalid field '{field}' must be a key=value pair")
        value = expand(value) if equals else "true"
        if name in _ONLY and kind not in _ONLY[name]:
            raise InvalidArgument(f"unexpected key '{key.lower()}' for mount type '{kind}'")
        if name == "type":
            kind = value.lower()
            if kind not in KINDS:
                raise InvalidArgument(f'unsupported mount type "{value}"{suggestion(value, KINDS)}')
        elif name not in _KEYS:
            raise InvalidArgument(f"unexpected key '{key.lower()}' in '{field}'{suggestion(key.lower(), _KEYS)}")
        else:
            values.update([_checked(name, key.lower(), value)])
    return kind, values


def _checked(name: str, key: str, value: str) -> tuple[str, str]:
    """The pair as it is kept: `rw` becomes the contrary of `readonly`."""
    if name in _FLAGS:
        if value not in (*_TRUE, *_FALSE):
            raise InvalidArgument(f"invalid value for {key}: {value}")
        yes = (value in _TRUE) == (name != "rw")
        return "readonly" if name == "rw" else name, "true" if yes else "false"
    if name == "mode" and not re.fullmatch(r"[0-7]{1,5}", value, re.ASCII):
        raise InvalidArgument(f"invalid value {value} for mode")
    if name in ("uid", "gid") and not (re.fullmatch(r"[0-9]{1,10}", value, re.ASCII) and int(value) < 1 << 32):
        raise InvalidArgument(f"invalid value {value} for {name}")
    if name == "sharing":
        value = value.lower()
        if value not in _SHARING:
            raise InvalidArgument(f'unsupported sharing value "{value}"{suggestion(value, _SHARING)}')
    if name == "size":
        try:
            parse_bytes(value)
        except InvalidArgument:
            raise InvalidArgument(f"invalid value for size: {value}") from None
    return name, value


def parse_mount(text: str, working_dir: str, expand: Callable[[str], str] = str) -> RunMount:
    """The value of one --mount; `expand` replaces variables in its values. Raises InvalidArgument."""
    kind, values = mount_values(text, expand)
    _check(kind, values)
    target = values.get("target", "")
    if kind == "secret":
        values["id"] = values.get("id") or values.get("source") or posixpath.basename(target)
        target = target or ("" if "env" in values else f"/run/secrets/{posixpath.basename(values['id'])}")
        if not target:
            return RunMount(text, kind, values, "")
    if kind == "ssh":
        values["id"] = values.get("id") or "default"
        return RunMount(text, kind, values, target)
    target = posixpath.normpath(posixpath.join("/", working_dir or "/", target))
    if target.strip("/") == "":
        raise InvalidArgument('invalid mount target "/"')
    return RunMount(text, kind, values, "/" + target.lstrip("/"))


def _check(kind: str, values: dict[str, str]) -> None:
    if kind not in _OWNED:
        for name in ("mode", "uid", "gid"):
            if name in values:
                raise InvalidArgument(f'{name} not allowed for "{kind}" type mounts')
    if kind == "secret":
        if "from" in values:
            raise InvalidArgument("secret mount should not have a from")
        if "sharing" in values:
            raise InvalidArgument("secret mount should not define sharing")
        if not (values.get("source") or values.get("target") or values.get("id")):
            raise InvalidArgument("invalid secret mount. one of source, target required")
        if values.get("source") and values.get("id"):
            raise InvalidArgument("both source and id can't be set")
    if kind == "ssh" and values.get("source"):
        raise InvalidArgument("ssh does not support source")
    if "sharing" in values and kind != "cache":
        raise InvalidArgument(f"invalid cache sharing set for {kind} mount")
