"""A program's image: what execve(2) takes, made ready, so that the call itself changes no memory of the caller's."""


from corten.base import pathnames
from corten.linux import foreign
from corten.linux.libc import libc

_execve = libc.execve


class Image:
    """The arguments and the environment. Raises ValueError for a word with a zero byte."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self._arguments = _strings(arguments)
        self._environment = _strings([f"{name}={value}" for name, value in environment.items()])

    def execute(self, path: str) -> int:
        """Become the program; returns the errno when that fails."""
        _execve(pathnames.encode(path), self._arguments, self._environment)
        return foreign.get_errno()


def _strings(words: list[str]) -> "foreign.Array[foreign.c_char_p]":
    encoded = [pathnames.encode(word) for word in words]
    if any(b"\0" in word for word in encoded):
        raise ValueError("embedded null byte")
    return (foreign.c_char_p * (len(encoded) + 1))(*encoded, None)
