"""A file of the user's that is written piece by piece and appears whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO


@contextmanager
def appearing(path: str, mode: int = 0o666, beside: str = "") -> Iterator[BinaryIO]:
    """A new file to write, renamed to `path` when the block ends and gone when it fails; `mode` before the umask.

    It is made in the folder `beside` (on the same file system), by default that of `path`, under a name that nobody can
    have made ready. Raises OSError, which names `path`.
    """
    temporary = f"{beside or os.path.dirname(path) or '.'}/.corten_temp_{secrets.token_hex(8)}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    try:
        with open(descriptor, "wb") as file:
            yield file
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
