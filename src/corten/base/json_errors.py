"""What is wrong with a JSON text, in the words of Go's encoding/json, which docker's users and tests know. Pure."""

_AFTER = {  # what Python's scanner says -> what Go says of the character there
    "Expecting property name": "looking for beginning of object key string",
    "Expecting ':' delimiter": "after object key",
    "Expecting value": "looking for beginning of value",
    "Invalid control character": "in string literal",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX escape": "in \\u hexadecimal character escape",
}


def in_go_words(text: str, error: ValueError) -> str:
    """`error` is the scanner's: a json.JSONDecodeError, or jsonio's with the same `msg` and `pos`."""
    said, at = str(getattr(error, "msg", error)), int(getattr(error, "pos", -1))
    if said.startswith("Extra data"):
        return "unexpected content after JSON"
    if at >= len(text) or said.startswith("Unterminated string"):
        return "unexpected EOF"
    if said.startswith("Expecting ',' delimiter"):
        return f"invalid character {_quoted(text[at])} after {_container(text[:at])}"
    for beginning, where in _AFTER.items():
        if said.startswith(beginning):
            return f"invalid character {_quoted(text[at])} {where}"
    return said


def _quoted(character: str) -> str:
    return {"'": r"'\''", '"': "'\"'", "\n": r"'\n'", "\t": r"'\t'"}.get(character, f"'{character}'")


def _container(before: str) -> str:
    """What the value before the missing comma stands in: the innermost bracket that is still open."""
    depth, quoted = 0, False
    for at in range(len(before) - 1, -1, -1):
        if before[at] == '"' and (at == 0 or before[at - 1] != "\\"):
            quoted = not quoted
        elif not quoted and before[at] in "}]":
            depth += 1
        elif not quoted and before[at] in "{[":
            if not depth:
                return "object key:value pair" if before[at] == "{" else "array element"
            depth -= 1
    return "top-level value"
