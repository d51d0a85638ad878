"""The functions a template may call: Go's builtins and docker's (json split join title lower upper pad truncate)."""

from collections.abc import Callable

from corten.cli.template_values import (
    NO_VALUE,
    WIDEST,
    Nil,
    NoValue,
    Record,
    TypedList,
    TypedMap,
    show,
    sprint,
    sprintf,
    sprintln,
    to_json,
    truth,
    type_name,
)


class CallError(Exception):
    """A function's own failure; the text follows `error calling NAME: `."""


class WrongType(CallError):
    """An argument of another type than the function takes; the error names the argument itself."""

    def __init__(self, place: int, expected: str, value: object) -> None:
        super().__init__(f"wrong type for value; expected {expected}; got {type_name(value)}")
        self.place = place


def _length(value: object) -> int:
    if isinstance(value, Nil):
        return 0
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, (list, tuple, dict)):
        return len(value)
    if value is None or isinstance(value, NoValue):
        raise CallError("len of nil pointer" if value is None else "len of untyped nil")
    raise CallError(f"len of type {type_name(value)}")


def _position(key: object, length: int) -> int:
    if key is None:
        raise CallError("cannot index slice/array with nil")
    if isinstance(key, bool) or not isinstance(key, int):
        raise CallError(f"cannot index slice/array with type {type_name(key)}")
    if not 0 <= key < length:
        raise CallError(f"index out of range: {key}")
    return key


def _index(value: object, *keys: object) -> object:
    if value is None or isinstance(value, NoValue):
        raise CallError("index of untyped nil")
    for key in keys:
        if isinstance(value, Nil):
            if value.shown == "<nil>":
                raise CallError("index of nil pointer")
            value = {} if value.shown.startswith("map") else []
        if isinstance(value, dict):
            if not isinstance(key, str):
                raise CallError(f"value has type {type_name(key)}; should be string")
            zero = value.zero if isinstance(value, TypedMap) else None
            value = value.get(key, zero)
        elif isinstance(value, (list, tuple)):
            value = value[_position(key, len(value))]
        elif isinstance(value, str):
            data = value.encode("utf-8", "surrogateescape")
            value = data[_position(key, len(data))]
        elif value is None:
            raise CallError("index of nil pointer")
        else:
            raise CallError(f"can't index item of type {type_name(value)}")
    return value


def _slice(value: object, *keys: object) -> object:
    if not isinstance(value, (str, list, tuple)):
        raise CallError(f"can't slice item of type {type_name(value)}")
    if len(keys) > 3 or (isinstance(value, str) and len(keys) == 3):
        raise CallError("cannot 3-index slice a string" if isinstance(value, str) else "too many slice indexes: 4")
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    bounds = [0, len(data)]
    for place, key in enumerate(keys[:2]):
        bounds[place] = _position(key, len(data) + 1)
    if bounds[0] > bounds[1]:
        raise CallError(f"invalid slice index: {bounds[0]} > {bounds[1]}")
    part = data[bounds[0]:bounds[1]]
    return part.decode("utf-8", "replace") if isinstance(part, bytes) else part


_BASIC = {bool: "bool", int: "int", float: "float", str: "string"}


def _basic(value: object) -> str:
    kind = _BASIC.get(type(value))
    if kind is None:
        raise CallError("non-comparable type" if isinstance(value, (dict, list)) else "invalid type for comparison")
    return kind


def _equal(first: object, *others: object) -> bool:
    if not others:
        raise CallError("missing argument for comparison")
    for other in others:
        if isinstance(first, Nil) or isinstance(other, Nil) or first is None or other is None:
            if (first is None or isinstance(first, Nil)) and (other is None or isinstance(other, Nil)):
                return True
            continue
        if isinstance(first, (dict, list, Record)) or isinstance(other, (dict, list, Record)):
            bad = first if isinstance(first, (dict, list, Record)) else other
            raise CallError(f"non-comparable type {show(bad, False)}: {type_name(bad)}")
        if _basic(first) != _basic(other):
            raise CallError("incompatible types for comparison")
        if first == other:
            return True
    return False


def _less(first: object, second: object) -> bool:
    kind = _basic(first)
    if kind != _basic(second):
        raise CallError("incompatible types for comparison")
    if kind == "bool":
        raise CallError("invalid type for comparison")
    return first < second  # type: ignore[operator, no-any-return]


def _html(*values: object) -> str:
    text = _joined(values)
    for plain, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"), ("'", "&#39;"), ("\0", "\ufffd")):
        text = text.replace(plain, safe)
    return text


def _joined(values: tuple[object, ...]) -> str:
    if len(values) == 1 and isinstance(values[0], str):
        return values[0]
    return sprint(list(values))


_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}


def _js(*values: object) -> str:
    return "".join(
        _JS.get(letter) or (f"\\u{ord(letter):04X}" if ord(letter) < 32 else letter) for letter in _joined(values)
    )


def _urlquery(*values: object) -> str:
    from corten.cli.client import quote

    return quote(_joined(values), b" ").replace(" ", "+").replace("~", "~")


def _text(place: int, value: object) -> str:
    if not isinstance(value, str):
        raise WrongType(place, "string", value)
    return value


def _title(value: object) -> str:
    out, start = [], True
    for letter in _text(0, value):
        out.append(letter.title() if start else letter)
        start = not (letter.isalnum() or letter in "_'\"") if letter.isascii() else letter.isspace()
    return "".join(out)


def _split(value: object, separator: object) -> TypedList:
    text, mark = _text(0, value), _text(1, separator)
    parts: list[object] = list(text.split(mark) if mark else text)
    return TypedList(parts, "[]string")


def _join(values: object, separator: object = "") -> str:
    if isinstance(values, Nil):
        return ""
    if not isinstance(values, TypedList) or values.kind != "[]string":
        raise WrongType(0, "[]string", values)
    return _text(1, separator).join(map(str, values))


def _pad(value: object, before: object, after: object) -> str:
    text = _text(0, value)
    if not text:
        return text
    left, right = (min(n, WIDEST) if isinstance(n, int) else 0 for n in (before, after))
    return " " * left + text + " " * right


def _truncate(value: object, length: object) -> str:
    text = _text(0, value)
    return text[:length] if isinstance(length, int) and len(text) >= length >= 0 else text


FUNCTIONS: dict[str, Callable[..., object]] = {
    "eq": _equal,
    "ne": lambda first, second: not _equal(first, second),
    "lt": _less,
    "le": lambda first, second: _less(first, second) or _equal(first, second),
    "gt": lambda first, second: not (_less(first, second) or _equal(first, second)),
    "ge": lambda first, second: not _less(first, second),
    "not": lambda value: not truth(value),
    "len": _length,
    "index": _index,
    "slice": _slice,
    "print": lambda *values: sprint(list(values)),
    "println": lambda *values: sprintln(list(values)),
    "printf": lambda form, *values: sprintf(_text(0, form), list(values)),
    "html": _html,
    "js": _js,
    "urlquery": _urlquery,
    "json": to_json,
    "split": _split,
    "join": _join,
    "title": _title,
    "lower": lambda text: _text(0, text).lower(),
    "upper": lambda text: _text(0, text).upper(),
    "pad": _pad,
    "truncate": _truncate,
}

# in the line of headers these leave the header alone
HEADER_FUNCTIONS: dict[str, Callable[..., object]] = {
    **FUNCTIONS,
    **dict.fromkeys(("json", "title", "lower", "upper"), lambda value: value),
    **dict.fromkeys(("split", "join", "truncate"), lambda value, *_: value),
}

NAMES = frozenset((*FUNCTIONS, "and", "or", "call"))  # `and` and `or` stop early: template_run does them

__all__ = ["FUNCTIONS", "HEADER_FUNCTIONS", "NAMES", "NO_VALUE", "CallError", "WrongType"]
