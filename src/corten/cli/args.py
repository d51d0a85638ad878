"""Flags of a command line, parsed from a table as docker's (pflag's) grammar has it. Pure but for reading nothing.

It does not know any command: the table says which flags there are; a value's further meaning is the command's business.
"""

from corten.cli.errors import UsageError

Option = tuple[object, ...]  # name, shorthand, kind, help[, default]

_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_LISTS = frozenset(("list", "strings", "filter", "map", "mount", "network", "ulimit", "gpu-request"))
_SUFFIX = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_DURATION_NS = {
    "ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}


class Values:
    """The flags given, by long name; what was not given has its default."""

    __slots__ = ("_defaults", "given", "rest")

    def __init__(self, options: tuple[Option, ...]) -> None:
        self.given: dict[str, object] = {}
        self.rest: list[str] = []
        self._defaults = options

    def _default(self, name: str) -> object:
        for option in self._defaults:
            if option[0] == name:
                return option[4] if len(option) > 4 else None
        return None

    def has(self, name: str) -> bool:
        """Whether the flag was on the command line."""
        return name in self.given

    def flag(self, name: str) -> bool:
        """A switch."""
        value = self.given.get(name)
        return bool(self._default(name) if value is None else value)

    def text(self, name: str) -> str:
        """A text; empty when not given and without a default."""
        value = self.given.get(name)
        if value is None:
            value = self._default(name)
        return "" if value is None else str(value)

    def number(self, name: str) -> int:
        """A whole number (sizes in bytes, durations in nanoseconds); 0 when not given."""
        value = self.given.get(name)
        if value is None:
            value = self._default(name)
        return value if isinstance(value, int) else 0

    def many(self, name: str) -> list[str]:
        """A flag that may be given more than once, in order."""
        value = self.given.get(name)
        return [str(one) for one in value] if isinstance(value, list) else []


def parse_bool(text: str) -> bool:
    """Go's strconv.ParseBool. Raises ValueError with its text."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def parse_int(text: str, unsigned_bits: int = 0) -> int:
    """Go's strconv.ParseInt with base 10, or ParseUint of so many bits. Raises ValueError with its text."""
    function = "ParseUint" if unsigned_bits else "ParseInt"
    digits = text if unsigned_bits else text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f'strconv.{function}: parsing "{text}": invalid syntax')
    value = int(text) if len(digits) < 40 else 1 << 64
    low, high = (0, (1 << unsigned_bits) - 1) if unsigned_bits else (-(1 << 63), (1 << 63) - 1)
    if not low <= value <= high:
        raise ValueError(f'strconv.{function}: parsing "{text}": value out of range')
    return value


def parse_size(text: str) -> int:
    """`64m` -> 67108864: binary multiples, a fraction may be. Raises ValueError with docker's text."""
    number = text.rstrip("bBiI") if text[-1:] in ("b", "B") else text
    unit = ""
    if number and number[-1].lower() in "kmgtp":
        unit, number = number[-1].lower(), number[:-1]
    number = number.removesuffix(" ")
    whole, dot, fraction = number.partition(".")
    digits = whole + (fraction or "")
    if not whole or not digits.isascii() or not digits.isdigit() or (dot and not fraction) or len(digits) > 30:
        raise ValueError(f"invalid size: '{text}'")
    factor: int = 1024 ** _SUFFIX[unit]
    scale: int = 10 ** len(fraction)
    return int(digits) * factor // scale


def parse_duration_ns(text: str) -> int:
    """Go's duration (`1m30s`) in nanoseconds. Raises ValueError with Go's text."""
    body = text[1:] if text[:1] in ("-", "+") else text
    total, at = 0, 0
    if body == "0":
        return 0
    while at < len(body):
        end = at
        while end < len(body) and (body[end] in "0123456789."):
            end += 1
        unit_end = end
        while unit_end < len(body) and body[unit_end] not in "0123456789.":
            unit_end += 1
        whole, _, fraction = body[at:end].partition(".")
        if not (whole + fraction).isdigit():
            break
        unit = body[end:unit_end]
        if unit not in _DURATION_NS:
            what = f'unknown unit "{unit}"' if unit else "missing unit"
            raise ValueError(f'time: {what} in duration "{text}"')
        scale = _DURATION_NS[unit]
        total += int(whole or 0) * scale + (int(fraction) * scale // 10 ** len(fraction) if fraction else 0)
        at = unit_end
    if at < len(body) or not body:
        raise ValueError(f'time: invalid duration "{text}"')
    return -total if text[0] == "-" else total


def _decimal_nano(text: str) -> int:
    """`--cpus 1.5` -> 1500000000. Raises ValueError with docker's text."""
    body = text[1:] if text[:1] in ("-", "+") else text
    whole, _, fraction = body.partition(".")
    if not (whole + fraction).isdigit() or not (whole + fraction).isascii():
        raise ValueError(f"failed to parse {text} as a rational number")
    if len(fraction.rstrip("0")) > 9:
        raise ValueError("value is too precise")
    nano = int((whole or "0") + fraction[:9].ljust(9, "0"))
    return -nano if text[0] == "-" else nano


def _split_csv(text: str) -> list[str]:
    """One line of comma-separated values, quotes as in RFC 4180."""
    if '"' not in text:
        return text.split(",") if text else []
    parts: list[str] = []
    at = 0
    while at <= len(text):
        if text[at:at + 1] == '"':
            end = at + 1
            while (end := text.find('"', end)) >= 0 and text[end + 1:end + 2] == '"':
                end += 2
            if end < 0:
                column = len(text) + 1
                raise ValueError(f'parse error on line 1, column {column}: extraneous or missing " in quoted-field')
            parts.append(text[at + 1:end].replace('""', '"'))
            at = end + 2
        else:
            end = text.find(",", at)
            end = len(text) if end < 0 else end
            parts.append(text[at:end])
            at = end + 1
    return parts


def split_csv(text: str) -> list[str]:
    """A comma-separated value of a flag (`--mount`, `--ulimit`, …). Raises ValueError with Go's text."""
    return _split_csv(text)


def _convert(kind: str, text: str, name: str) -> object:
    if kind == "":
        return parse_bool(text)
    if kind == "int":
        return parse_int(text)
    if kind == "uint":
        return parse_int(text, 64)
    if kind == "uint16":
        return parse_int(text, 16)
    if kind == "bytes":
        return -1 if text == "-1" and name == "memory-swap" else parse_size(text)
    if kind == "duration":
        return parse_duration_ns(text)
    if kind == "decimal":
        return _decimal_nano(text)
    return text


def _check(kind: str, text: str) -> None:
    if kind == "filter" and text and "=" not in text:
        raise ValueError("bad format of filter (expected name=value)")
    if kind == "map" and not text:
        return


def shown(option: Option) -> str:
    """A flag as an error names it: `-m, --memory`."""
    return f"-{option[1]}, --{option[0]}" if option[1] else f"--{option[0]}"


class Parser:
    """One pass over a command line by a table of options."""

    def __init__(
        self, options: tuple[Option, ...], interspersed: bool = True,
        old: dict[str, tuple[str, str]] | None = None, warn: list[str] | None = None,
    ) -> None:
        self.options = options
        self.interspersed = interspersed
        self.old = old or {}
        self.warnings = warn if warn is not None else []
        self.values = Values(options)

    def parse(self, words: list[str]) -> Values:
        """The flags and the rest. `help` is given when asked for. Raises UsageError with docker's texts."""
        at = 0
        while at < len(words):
            word = words[at]
            at += 1
            if word == "--":
                self.values.rest += words[at:]
                break
            if word.startswith("--"):
                at = self._long(word, words, at)
            elif len(word) > 1 and word[0] == "-":
                at = self._short(word, words, at)
            else:
                self.values.rest.append(word)
                if not self.interspersed:
                    self.values.rest += words[at:]
                    break
            if self.values.given.get("help"):
                break
        return self.values

    def _find(self, name: str) -> Option | None:
        if name in self.old:
            name, warning = self.old[name]
            if warning and warning not in self.warnings:
                self.warnings.append(warning)
        for option in self.options:
            if option[0] == name:
                return option
        if name in self.old:
            return (name, "", "string", "")  # not shown, still taken
        return ("help", "", "", "") if name == "help" else None

    def _long(self, word: str, words: list[str], at: int) -> int:
        name, equals, value = word[2:].partition("=")
        if not name or name[0] in "-=":
            raise UsageError(f"bad flag syntax: {word}")
        option = self._find(name)
        if option is None:
            raise UsageError(f"unknown flag: --{name}")
        if not equals:
            if option[2] == "":
                value = "true"
            elif at < len(words):
                value = words[at]
                at += 1
            else:
                raise UsageError(f"flag needs an argument: --{name}")
        self._set(option, value)
        return at

    def _short(self, word: str, words: list[str], at: int) -> int:
        position = 1
        while position < len(word):
            letter = word[position]
            option = next((one for one in self.options if one[1] == letter), None)
            if option is None:
                if letter == "h" and position == 1:
                    self.values.given["help"] = True
                    return at
                raise UsageError(f"unknown shorthand flag: '{letter}' in -{word[position:]}")
            position += 1
            tail = word[position:]
            if tail.startswith("="):
                self._set(option, tail[1:])
                return at
            if option[2] == "":
                self._set(option, "true")
                continue
            if tail:
                self._set(option, tail)
                return at
            if at >= len(words):
                raise UsageError(f"flag needs an argument: '{letter}' in -{word[position - 1:]}")
            self._set(option, words[at])
            return at + 1
        return at

    def _set(self, option: Option, text: str) -> None:
        name, kind = str(option[0]), str(option[2])
        try:
            if kind in _LISTS:
                _check(kind, text)
                have = self.values.given.setdefault(name, [])
                assert isinstance(have, list)
                have += _split_csv(text) if kind == "strings" else [text]
            else:
                self.values.given[name] = _convert(kind, text, name)
        except ValueError as error:
            raise UsageError(f'invalid argument "{text}" for "{shown(option)}" flag: {error}') from None
