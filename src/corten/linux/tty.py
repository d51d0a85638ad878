"""Terminals: a pty of a given devpts, its size, and making it the controlling terminal."""

import fcntl
import posix
import struct

from corten.base.errors import InvalidArgument
from corten.linux.fd import DEVPTS_SUPER_MAGIC, filesystem_type

TIOCSPTLCK = 0x40045431
TIOCGPTPEER = 0x5441
TIOCSCTTY = 0x540E
TIOCGWINSZ = 0x5413
TIOCSWINSZ = 0x5414


def open_pair(devpts: int) -> tuple[int, int]:
    """(master, slave) of a new pty of the devpts mount whose folder `devpts` is. Raises OSError, InvalidArgument.

    The slave comes from the master by ioctl, never by a name: nothing in the container can stand in its place.
    """
    if filesystem_type(devpts) != DEVPTS_SUPER_MAGIC:
        raise InvalidArgument("/dev/pts is not a devpts")
    master = posix.open("ptmx", posix.O_RDWR | posix.O_NOCTTY | posix.O_CLOEXEC, dir_fd=devpts)
    try:
        fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
        slave = fcntl.ioctl(master, TIOCGPTPEER, posix.O_RDWR | posix.O_NOCTTY | posix.O_CLOEXEC)
    except OSError as error:
        posix.close(master)
        raise OSError(error.errno, f"ioctl: {error.strerror}", "/dev/pts/ptmx") from None
    return master, slave


def make_controlling(slave: int) -> None:
    """Make a terminal the controlling one of this session's leader. Raises OSError."""
    fcntl.ioctl(slave, TIOCSCTTY, 0)


def keep_newlines(terminal: int) -> None:
    """Let a newline through as it is: the terminal behind this one will add the carriage return. Raises OSError."""
    import termios

    modes = termios.tcgetattr(terminal)
    modes[1] &= ~termios.ONLCR
    termios.tcsetattr(terminal, termios.TCSANOW, modes)


def set_size(descriptor: int, rows: int, columns: int) -> None:
    """The window's size in characters; whoever is in the foreground gets SIGWINCH. Raises OSError."""
    fcntl.ioctl(descriptor, TIOCSWINSZ, struct.pack("4H", rows & 0xFFFF, columns & 0xFFFF, 0, 0))


def copy_size(terminal: int) -> None:
    """Give a container's terminal the size of ours, if we have one."""
    try:
        set_size(terminal, *get_size(0))
    except OSError:
        pass


def get_size(descriptor: int) -> tuple[int, int]:
    """(rows, columns). Raises OSError when it is no terminal."""
    rows, columns, _, _ = struct.unpack("4H", fcntl.ioctl(descriptor, TIOCGWINSZ, b"\0" * 8))
    return rows, columns
