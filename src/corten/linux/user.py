"""Becoming a user, by numbers. Names are no matter of this layer: no NSS, no /etc/passwd."""

import ctypes
import os

from corten.linux.libc import check, libc


def become(uid: int, gid: int, groups: list[int]) -> None:
    """Supplementary groups, then gid, then uid; the real, effective and saved ones. Raises OSError.

    Where setgroups is denied (a user namespace of an unprivileged user) an empty list is no error.
    """
    try:
        os.setgroups(groups)
    except PermissionError:
        if groups:
            raise
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def set_hostname(name: str) -> None:
    """sethostname(2). Raises OSError (EINVAL: longer than 64 bytes)."""
    data = name.encode()
    check(libc.sethostname(ctypes.c_char_p(data), len(data)), "sethostname")


def set_domainname(name: str) -> None:
    """The NIS domain. setdomainname(2). Raises OSError."""
    data = name.encode()
    check(libc.setdomainname(ctypes.c_char_p(data), len(data)), "setdomainname")
