"""JSON for a start of a few milliseconds: the interpreter's C scanner and encoder without `json`, which pulls in `re`.

Falls back to `json` where the C parts are absent. Replies of our own daemon are read here: bounded by the connection,
not by this file.
"""

from collections.abc import Callable

try:
    from _json import encode_basestring, make_encoder, make_scanner
except ImportError:  # another implementation of Python
    make_scanner = None  # type: ignore[assignment, misc]


class _Context:
    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}


def _load_any(text: str) -> object:
    import json

    return json.loads(text)


def _scanner() -> Callable[[str], object]:
    if make_scanner is None:
        return _load_any
    scan = make_scanner(_Context())  # type: ignore[arg-type]

    def load(text: str) -> object:
        try:
            value, end = scan(text, 0)
        except StopIteration:
            raise ValueError("invalid JSON") from None
        if end != len(text):
            raise ValueError("invalid JSON: text after the value")
        return value

    return load


_load = _scanner()


def loads(data: bytes | str) -> object:
    """A JSON text as plain Python values. Raises ValueError."""
    text = data if isinstance(data, str) else data.decode("utf-8", "surrogateescape")
    return _load(text.strip(" \t\r\n"))


def _refuse(value: object) -> object:
    raise TypeError(f"not JSON: {type(value).__name__}")


def dumps(value: object, sort_keys: bool = False) -> str:
    """Compact JSON as Go writes it: no blanks, UTF-8 left alone."""
    if make_scanner is None:
        import json

        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=sort_keys)
    encode = make_encoder({}, _refuse, encode_basestring, None, ":", ",", sort_keys, False, True)
    return "".join(encode(value, 0))


def html_escaped(text: str) -> str:
    """What Go's encoder does to JSON by default: `<`, `>` and `&` as \\u escapes."""
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def indented(value: object, width: int = 4) -> str:
    """JSON over several lines, as `inspect` prints it."""
    import json

    return json.dumps(value, ensure_ascii=False, indent=width)
