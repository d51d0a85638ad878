"""Names of files as text: what os has for them, without its import, which takes a start of corten-oci a millisecond.

`posix` has all the calls of os; nothing here looks at the disk but `exists` and `make_folders`.
"""

import posix

ENCODING = "utf-8"  # of every name; bytes that are no UTF-8 come and go as surrogates, as in os.fsencode


def encode(path: str) -> bytes:
    """The bytes the kernel is given."""
    return path.encode(ENCODING, "surrogateescape")


def decode(path: bytes) -> str:
    """The text of the kernel's bytes."""
    return path.decode(ENCODING, "surrogateescape")


def normal(path: str) -> str:
    """os.path.normpath: without empty parts, `.` and `..`, as far as the text alone says; two slashes first stay."""
    first = "//" if path.startswith("//") and not path.startswith("///") else "/" if path.startswith("/") else ""
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", ".") and (part != ".." or not first):
            parts.append(part)
    return first + "/".join(parts) or "."


def absolute(path: str) -> str:
    """os.path.abspath: from the working folder on."""
    return normal(path if path.startswith("/") else f"{posix.getcwd()}/{path}")


def split(path: str) -> tuple[str, str]:
    """os.path.split: (the folder, the last part)."""
    head, slash, tail = path.rpartition("/")
    head += slash
    return head.rstrip("/") or head, tail


def join(*parts: str) -> str:
    """os.path.join: an absolute part begins anew."""
    found = parts[0]
    for part in parts[1:]:
        found = part if part.startswith("/") else found + ("" if not found or found.endswith("/") else "/") + part
    return found


def exists(path: str) -> bool:
    """os.path.exists: links are followed."""
    try:
        posix.stat(path)
    except (OSError, ValueError):
        return False
    return True


def make_folders(path: str, mode: int) -> None:
    """os.makedirs: those above with the usual mode; one that is there is no error. Raises OSError."""
    head, tail = split(path)
    if not tail:
        head, tail = split(head)
    if head and tail and not exists(head):
        make_folders(head, 0o777)
    try:
        posix.mkdir(path, mode)
    except FileExistsError:
        pass
