"""`--filter name=value` flags as the API's `filters` parameter. Pure."""

from corten.base import jsonio


def encode(given: list[str]) -> str:
    """`["a=b", "a=c"]` -> `{"a":{"b":true,"c":true}}`; empty for none."""
    found: dict[str, dict[str, bool]] = {}
    for text in given:
        if not text:
            continue
        name, _, value = text.partition("=")
        found.setdefault(name.strip().lower(), {})[value.strip()] = True
    return jsonio.dumps(found, sort_keys=True) if found else ""


def query(given: list[str]) -> list[tuple[str, str]]:
    """The parameter, or nothing when no filter was given."""
    text = encode(given)
    return [("filters", text)] if text else []
