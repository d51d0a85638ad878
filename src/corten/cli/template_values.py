"""How Go shows values: `fmt`'s %v and friends over plain Python values and the typed views of template_run. Pure."""

from corten.base import jsonio


class Record:
    """A value with Go's field names in Go's order: a struct as a template sees it.

    `fields` are (name, value) pairs; a value may be a function that takes the template's arguments (a Go method).
    """

    __slots__ = ("by_name", "kind", "source")

    def __init__(self, kind: str, fields: dict[str, object], source: object = None) -> None:
        self.kind = kind
        self.by_name = fields
        self.source = source  # what `json` shows


class Nil:
    """A nil pointer or slice or map of a known type: false, shown as Go does, null in JSON."""

    __slots__ = ("kind", "shown")

    def __init__(self, kind: str, shown: str) -> None:
        self.kind = kind
        self.shown = shown


class TypedMap(dict[str, object]):
    """A map whose absent keys `index` gives this zero value."""

    __slots__ = ("kind", "zero")

    def __init__(self, pairs: dict[str, object], zero: object, kind: str) -> None:
        super().__init__(pairs)
        self.zero = zero
        self.kind = kind


class TypedList(list[object]):
    """A list whose elements all have one type, as `[]string`."""

    __slots__ = ("kind",)

    def __init__(self, values: list[object], kind: str) -> None:
        super().__init__(values)
        self.kind = kind


class NoValue:
    """Go's invalid value: an absent key of a map."""

    __slots__ = ()


NO_VALUE = NoValue()


def truth(value: object) -> bool:
    """Go template's idea of true: neither zero, nil nor empty; a struct always."""
    if isinstance(value, Record):
        return True
    if isinstance(value, (Nil, NoValue)):
        return False
    return bool(value)


def show_float(value: float) -> str:
    """%v of a float64."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    exponent = 0
    if value:
        import math

        exponent = math.floor(math.log10(abs(value)))
    if -5 < exponent < 21:
        if "e" in text:
            text = f"{value:f}".rstrip("0").rstrip(".") if exponent < 0 else f"{value:.0f}"
        return text.removesuffix(".0")
    mantissa, _, power = (text if "e" in text else f"{value:e}").partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{'-' if power[0] == '-' else '+'}{abs(int(power)):02d}"


def show(value: object, top: bool = True) -> str:
    """%v of a value; `top` tells `<no value>` from a nil inside another."""
    if value is None:
        return "<no value>" if top else "<nil>"
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return show_float(value)
    if isinstance(value, Nil):
        return value.shown
    if isinstance(value, NoValue):
        return "<no value>"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(show(one, False) for one in value) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{show(value[key], False)}" for key in sorted(value)) + "]"
    if isinstance(value, Record):
        return "{" + " ".join(show(one, False) for one in value.by_name.values() if not callable(one)) + "}"
    return str(value)


def type_name(value: object) -> str:
    """A value's type as Go would name it."""
    if isinstance(value, (Record, Nil, TypedMap, TypedList)):
        return value.kind
    if isinstance(value, bool):
        return "bool"
    for kind, name in ((int, "int"), (float, "float64"), (str, "string"), (dict, "map[string]interface {}"),
                       ((list, tuple), "[]interface {}")):
        if isinstance(value, kind):
            return name
    return "<nil>"


def plain(value: object) -> object:
    """The value with typed views taken off, for JSON."""
    if isinstance(value, Record):
        return value.source if value.source is not None else {
            name: plain(one) for name, one in value.by_name.items() if not callable(one)
        }
    if isinstance(value, (Nil, NoValue)):
        return None
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value


def to_json(value: object) -> str:
    """What the template function `json` writes."""
    source = plain(value)
    text = jsonio.dumps(source, sort_keys=isinstance(value, dict))
    if isinstance(value, Record) and value.kind.endswith("Context"):
        return jsonio.html_escaped(text)  # docker's rows write their own JSON, which escapes
    return text


def quoted(text: str) -> str:
    """Go's %q."""
    out = ['"']
    for letter in text:
        code = ord(letter)
        simple = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b",
                  "\f": "\\f", "\v": "\\v"}.get(letter)
        if simple:
            out.append(simple)
        elif code < 32 or code == 127:
            out.append(f"\\x{code:02x}")
        elif letter.isprintable():
            out.append(letter)
        else:
            out.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return "".join((*out, '"'))


def sprint(values: list[object]) -> str:
    """fmt.Sprint: a blank between two operands when neither is a string."""
    out = ""
    before: object = ""
    for index, value in enumerate(values):
        if index and not isinstance(before, str) and not isinstance(value, str):
            out += " "
        out += show(value, False)
        before = value
    return out


def sprintln(values: list[object]) -> str:
    """fmt.Sprintln."""
    return " ".join(show(value, False) for value in values) + "\n"


def _bad(verb: str, value: object) -> str:
    if value is None:
        return f"%!{verb}(<nil>)"
    return f"%!{verb}({type_name(value)}={show(value, False)})"


def _integer(verb: str, value: int, flags: str, precision: int | None) -> str:
    if verb in ("c", "q"):
        sign = chr(value) if 0 <= value <= 0x10FFFF and not 0xD800 <= value < 0xE000 else "\ufffd"
        return sign if verb == "c" else f"'{sign}'"
    if verb == "U":
        return f"U+{value:04X}"
    digits = format(abs(value), {"d": "d", "x": "x", "X": "X", "o": "o", "b": "b", "O": "o"}[verb])
    if precision is not None:
        digits = digits.rjust(precision, "0")
    if "#" in flags or verb == "O":
        digits = {"x": "0x", "X": "0X", "o": "0", "b": "0b", "O": "0o"}.get(verb, "") + digits
    sign = "-" if value < 0 else "+" if "+" in flags else " " if " " in flags else ""
    return sign + digits


def _real(verb: str, value: float, flags: str, precision: int | None) -> str:
    if verb in "gG" and precision is None:
        text = show_float(value)
    else:
        text = format(value, f".{6 if precision is None else precision}{verb}")
    return ("+" if "+" in flags and value >= 0 else "") + text


def _verb(verb: str, value: object, flags: str, precision: int | None) -> str:
    if verb == "v":
        if isinstance(value, str) and "#" in flags:
            return quoted(value)
        text = show(value, False)
        return f"+{text}" if "+" in flags and isinstance(value, int) and value >= 0 else text
    if verb == "T":
        return type_name(value)
    if isinstance(value, (list, tuple)) and verb != "t":
        return "[" + " ".join(_verb(verb, one, flags, precision) for one in value) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(
            f"{_verb(verb, key, flags, precision)}:{_verb(verb, value[key], flags, precision)}" for key in sorted(value)
        ) + "]"
    if isinstance(value, bool):
        return show(value) if verb == "t" else _bad(verb, value)
    if isinstance(value, int) and verb in "dxXobOcqU":
        return _integer(verb, value, flags, precision)
    if isinstance(value, float) and verb in "eEfFgG":
        return _real(verb, value, flags, precision)
    if isinstance(value, str) and verb in "sqxX":
        text = value if precision is None else value[:precision]
        if verb == "s":
            return text
        if verb == "q":
            return quoted(text)
        data = text.encode("utf-8", "surrogateescape").hex()
        return data.upper() if verb == "X" else data
    return _bad(verb, value)


WIDEST = 1_000_000  # Go's bound for widths and precisions: a template must not cost the machine's memory


def sprintf(form: str, values: list[object]) -> str:
    """fmt.Sprintf for the verbs a template can meet."""
    out: list[str] = []
    at, used = 0, 0
    while (start := form.find("%", at)) >= 0:
        out.append(form[at:start])
        at = start + 1
        flags = ""
        while at < len(form) and form[at] in "+-# 0":
            flags += form[at]
            at += 1
        sizes: list[int | None] = []
        for _ in (0, 1):
            if len(sizes) == 1:
                if form[at:at + 1] != ".":
                    break
                at += 1
            if form[at:at + 1] == "*" and used < len(values):
                star = values[used]
                good = isinstance(star, int) and abs(star) <= WIDEST
                if not good:
                    out.append("%!(BADPREC)" if sizes else "%!(BADWIDTH)")
                sizes.append(star if good and isinstance(star, int) else None)
                used, at = used + 1, at + 1
                continue
            end = at
            while end < len(form) and form[end] in "0123456789":
                end += 1
            size = int(form[at:min(end, at + 9)]) if end > at else 0 if sizes else None
            sizes.append(size)
            at = end if (size or 0) <= WIDEST else len(form)  # as Go gives up on it
        if at >= len(form):
            out.append("%!(NOVERB)")
            return "".join(out)
        verb = form[at]
        at += 1
        if verb == "%":
            out.append("%")
            continue
        if used >= len(values):
            out.append(f"%!{verb}(MISSING)")
            continue
        out.append(_padded(_verb(verb, values[used], flags, sizes[1] if len(sizes) > 1 else None), flags, sizes[0]))
        used += 1
    out.append(form[at:])
    if used < len(values):
        extra = ", ".join(f"{type_name(one)}={show(one, False)}" for one in values[used:])
        out.append(f"%!(EXTRA {extra})")
    return "".join(out)


def _padded(text: str, flags: str, width: int | None) -> str:
    if not width:
        return text
    if width < 0 or "-" in flags:
        return text.ljust(abs(width))
    if "0" in flags:
        return text.zfill(width)
    return text.rjust(width)
