"""The user's terminal: raw mode and back, its size, detach keys. It is put back however the command ends."""

import os
import termios

from corten.base.detach_keys import key_byte
from corten.cli.errors import Failure

DEFAULT_KEYS = "ctrl-p,ctrl-q"

# where the attributes lie in termios.tcgetattr's list
_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6


class RawTerminal:
    """Raw mode of a terminal for as long as the block lasts; anything else than a terminal is left alone."""

    __slots__ = ("_before", "_descriptor")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._before: list[object] | None = None

    def __enter__(self) -> "RawTerminal":
        if os.isatty(self._descriptor):
            before = termios.tcgetattr(self._descriptor)
            self._before = list(before)
            raw = list(before)
            raw[_IFLAG] &= ~(termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP | termios.IXON
                             | termios.IGNBRK | termios.PARMRK | termios.INLCR | termios.IGNCR)
            raw[_OFLAG] &= ~termios.OPOST
            raw[_CFLAG] = raw[_CFLAG] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
            raw[_LFLAG] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN | termios.ISIG)
            control = list(raw[_CC])
            control[termios.VMIN], control[termios.VTIME] = 1, 0
            raw[_CC] = control
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, raw)
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def restore(self) -> None:
        """Back to how it was; may be called twice."""
        if self._before is not None:
            before, self._before = self._before, None
            try:
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, before)  # type: ignore[arg-type]
            except termios.error:
                pass  # the terminal is gone


def size() -> tuple[int, int] | None:
    """(rows, columns) of the terminal on stdout; None when there is none."""
    try:
        found = os.get_terminal_size(1)
    except OSError:
        return None
    return (found.lines, found.columns) if found.lines and found.columns else None


def check_input(interactive: bool, tty: bool) -> None:
    """A terminal for the container needs one here when input is attached. Raises Failure."""
    if interactive and tty and not os.isatty(0):
        raise Failure("the input device is not a TTY")


def parse_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q` -> b"\\x10\\x11". Raises Failure."""
    keys = bytearray()
    for key in text.split(","):
        if (byte := key_byte(key)) < 0:
            raise Failure(f"Unknown character: '{key}'")
        keys.append(byte)
    return bytes(keys)
