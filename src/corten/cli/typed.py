"""JSON seen through schema's types: fields that the JSON leaves out have Go's zero value instead of being an error."""

from corten.cli import clock
from corten.cli.schema import TYPES
from corten.cli.template_values import Nil, Record, TypedList, TypedMap

_ZERO: dict[str, object] = {"s": "", "i": 0, "b": False, "any": None}


def _go_time(text: object) -> str:
    seconds = clock.seconds_of(text) if isinstance(text, str) else 0.0
    if not seconds or not isinstance(text, str):
        return "0001-01-01 00:00:00 +0000 UTC"
    end = 19
    if text[19:20] == ".":
        end = 20
        while end < len(text) and text[end].isdigit():
            end += 1
    fraction = text[19:end].rstrip("0").rstrip(".")
    zone = text[end:]
    shown = "+0000 UTC" if zone in ("Z", "") else f"{zone.replace(':', '')} {zone.replace(':', '')}"
    return f"{text[:10]} {text[11:19]}{fraction} {shown}"


def view(value: object, kind: str) -> object:
    """`value` (JSON or absent) as the Go type `kind`."""
    if kind.startswith("*"):
        return Nil(f"*{_go_name(kind[1:])}", "<nil>") if value is None else view(value, kind[1:])
    if kind.startswith("[]"):
        if not isinstance(value, list):
            return Nil(_go_name(kind), "[]")
        return TypedList([view(one, kind[2:]) for one in value], _go_name(kind))
    if kind.startswith("{"):
        inner = kind[1:-1]
        if not isinstance(value, dict):
            return Nil(_go_name(kind), "map[]")
        return TypedMap({key: view(one, inner) for key, one in value.items()}, view(None, inner), _go_name(kind))
    if kind == "t":
        return _go_time(value)
    if kind in _ZERO:
        return _ZERO[kind] if value is None else value
    if kind in TYPES:
        return _struct(value if isinstance(value, dict) else {}, kind)
    return value


def _struct(value: dict[str, object], kind: str) -> Record:
    fields: dict[str, object] = {}
    for field in TYPES[kind].split():
        names, _, inner = field.partition(":")
        name, _, key = names.partition("=")
        fields[name] = view(value.get(key or name), inner)
    return Record(kind, fields, value)


def _go_name(kind: str) -> str:
    if kind.startswith("[]"):
        return f"[]{_go_name(kind[2:])}"
    if kind.startswith("{"):
        return f"map[string]{_go_name(kind[1:-1])}"
    if kind.startswith("*"):
        return f"*{_go_name(kind[1:])}"
    return {"s": "string", "i": "int", "b": "bool", "t": "time.Time", "any": "interface {}"}.get(kind, kind)
