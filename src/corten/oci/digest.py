"""Digests: `sha256:<64 hexadecimal digits>`, checked before anything else is done with one. Pure.

Other algorithms are refused: a second one doubles what must be verified and no registry in use needs it.
"""

import hashlib

from corten.base.errors import InvalidArgument
from corten.base.ids import is_id

PREFIX = "sha256:"


def is_digest(text: object) -> bool:
    """Whether `text` is a whole sha256 digest, lower case."""
    return isinstance(text, str) and text.startswith(PREFIX) and is_id(text[7:])


def hex_of(digest: object) -> str:
    """The 64 digits, safe as a file name. Raises InvalidArgument for anything else than a sha256 digest."""
    if not isinstance(digest, str) or not is_digest(digest):
        raise InvalidArgument(f"invalid digest: {str(digest)[:100]!r}")
    return digest[7:]


def digest_of(data: bytes) -> str:
    """The digest of some bytes."""
    return PREFIX + hashlib.sha256(data).hexdigest()
