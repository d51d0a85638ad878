"""Files written whole or not at all, and JSON read strictly."""

import posix

from corten.base import jsonio
from corten.base.errors import InvalidArgument


def atomic_write(path: str, data: bytes, mode: int = 0o600) -> None:
    """Replace `path` by `data` in one rename; a reader sees the old bytes or the new ones, whoever is killed when.

    Not synced to the disk: what must survive a power cut goes to the database. Raises OSError.
    """
    temporary = f"{path}.{posix.getpid()}.tmp"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC | posix.O_NOFOLLOW
    descriptor = posix.open(temporary, flags, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[posix.write(descriptor, view):]
        posix.fchmod(descriptor, mode)
    except BaseException:
        posix.unlink(temporary)
        raise
    finally:
        posix.close(descriptor)
    posix.rename(temporary, path)


def read_bytes(path: str, limit_bytes: int = 1 << 20) -> bytes:
    """The whole of a small file. Raises OSError, InvalidArgument when it is longer than the limit."""
    descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        parts = []
        left = limit_bytes + 1
        while left > 0 and (part := posix.read(descriptor, min(left, 1 << 20))):
            parts.append(part)
            left -= len(part)
    finally:
        posix.close(descriptor)
    if left <= 0:
        raise InvalidArgument(f"{path}: longer than {limit_bytes} bytes")
    return b"".join(parts)


def _refuse_duplicates(pairs: "list[tuple[str, object]]") -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise InvalidArgument(f"invalid JSON: duplicate key {key!r}")
            seen.add(key)
    return found


def _refuse_constant(name: str) -> object:
    raise InvalidArgument(f"invalid JSON: {name} is not a number")


def _bounded(text: str) -> int:
    """An integer of at most 64 bits; Python would take any number of digits."""
    value = int(text) if len(text) <= 20 else 1 << 64
    if not -(1 << 63) <= value < 1 << 64:
        raise InvalidArgument(f"invalid JSON: the number {text[:24]} is out of range")
    return value


_scan = jsonio.scanner(_refuse_duplicates, _refuse_constant, _bounded, strict=True)


def parse_json(data: bytes | str, limit_bytes: int = 4 << 20, limit_depth: int = 64) -> object:
    """The one strict JSON loader: bounded in size and depth, no duplicate keys, no NaN, nothing after the value.

    Two parsers that judge the same bytes differently are a bypass. Raises InvalidArgument.
    """
    if len(data) > limit_bytes:
        raise InvalidArgument(f"invalid JSON: longer than {limit_bytes} bytes")
    text = ""
    try:
        text = (data if isinstance(data, str) else data.decode("utf-8")).strip(" \t\r\n")  # json would guess
        value = _scan(text)
        if "\\u" in text:
            jsonio.dumps(value).encode()  # half of a surrogate pair is no text
    except RecursionError as error:
        raise InvalidArgument(f"invalid JSON: {error}") from None
    except ValueError as error:
        from corten.base.json_errors import in_go_words

        raise InvalidArgument(f"invalid JSON: {in_go_words(text, error)}") from None
    if _depth_exceeds(value, limit_depth):
        raise InvalidArgument(f"invalid JSON: nested deeper than {limit_depth}")
    return value


def _depth_exceeds(value: object, limit: int) -> bool:
    level: list[object] = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def remove_tree(path: str) -> None:
    """Remove a folder of ours and all below it, on one file system, never through a symbolic link; absent is fine."""
    import shutil  # not at import time: 4 ms that a start of the command line does not need

    shutil.rmtree(path, ignore_errors=False, onerror=_ignore_absent)


def _ignore_absent(_function: object, _path: str, info: tuple[type[BaseException], BaseException, object]) -> None:
    if not isinstance(info[1], FileNotFoundError):
        raise info[1]
