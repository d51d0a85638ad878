"""JSON for a start of a few milliseconds: the interpreter's C scanner and encoder without `json`, which pulls in `re`.

Falls back to `json` where the C parts are absent. What comes from outside goes through `files.parse_json`, which is
strict; replies of our own daemon may be read by `loads`: bounded by the connection, not by this file.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

try:
    from _json import encode_basestring, make_encoder, make_scanner
except ImportError:  # another implementation of Python
    make_scanner = None  # type: ignore[assignment, misc]


class BadText(ValueError):
    """A text that is no JSON; `msg` and `pos` as json.JSONDecodeError has them."""

    def __init__(self, msg: str, pos: int) -> None:
        super().__init__(f"{msg}: character {pos}")
        self.msg, self.pos = msg, pos


class _Context:
    """What the scanner asks of a json.JSONDecoder."""

    strict = False
    object_hook = None
    object_pairs_hook: "Callable[..., object] | None" = None
    parse_float: "Callable[[str], object]" = float
    parse_int: "Callable[[str], object]" = int
    parse_constant: "Callable[[str], object]" = float

    def __init__(self) -> None:
        self.memo: dict[str, str] = {}


def scanner(
    pairs: "Callable[..., object] | None" = None, constant: "Callable[[str], object]" = float,
    integer: "Callable[[str], object]" = int, strict: bool = False,
) -> "Callable[[str], object]":
    """A function that reads one JSON text with these hooks of json.loads; raises ValueError."""
    if make_scanner is None:
        import json

        return json.JSONDecoder(
            object_pairs_hook=pairs, parse_constant=constant, parse_int=integer, strict=strict).decode
    context = _Context()
    context.object_pairs_hook, context.parse_constant, context.parse_int = pairs, constant, integer
    context.strict = strict
    scan = make_scanner(context)  # type: ignore[arg-type]

    def load(text: str) -> object:
        try:
            value, end = scan(text, 0)
        except StopIteration as error:
            raise BadText("Expecting value", error.value) from None
        except SystemError:  # the C scanner raises json.decoder's exception, and can not when nobody has imported it
            import json.decoder  # noqa: F401

            value, end = scan(text, 0)
        if end != len(text):
            raise BadText("Extra data", end)
        return value

    return load


_load = scanner()


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
    return _indented(value, " " * width, "\n")


def _indented(value: object, step: str, end: str) -> str:
    if isinstance(value, dict) and value:
        items = [f"{dumps(key)}: {_indented(inner, step, end + step)}" for key, inner in value.items()]
        return "{" + f"{end}{step}" + f",{end}{step}".join(items) + end + "}"
    if isinstance(value, (list, tuple)) and value:
        items = [_indented(inner, step, end + step) for inner in value]
        return "[" + f"{end}{step}" + f",{end}{step}".join(items) + end + "]"
    return dumps(value)
