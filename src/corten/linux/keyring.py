"""The session keyring: keys a process finds with the kernel, and hands to its children. keyctl(2)."""

import errno

from corten.linux import foreign
from corten.linux.libc import syscall

KEYCTL_JOIN_SESSION_KEYRING = 1
KEYCTL_SETPERM = 5
KEYCTL_DESCRIBE = 6
KEY_USR_SEARCH = 0x00080000
KEY_OTH_SEARCH = 0x00000008


def join_session(name: str, search: int = 0) -> None:
    """Leave the caller's session keyring for the one of this name, made if missing; permit a `search` of it, or none.

    So keys of the host's session stay out of a container, and an exec meets the keys of the container's init. Where the
    kernel or a filter knows no keyrings, and without a name, nothing is done. Raises OSError.
    """
    if not name:
        return
    try:
        ring = syscall("keyctl", KEYCTL_JOIN_SESSION_KEYRING, name.encode())
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            return
        raise
    if not search:
        return
    text = foreign.create_string_buffer(256)
    syscall("keyctl", KEYCTL_DESCRIBE, ring, text, len(text))
    permissions = int(text.value.split(b";")[3], 16)  # type;uid;gid;permissions;description
    syscall("keyctl", KEYCTL_SETPERM, ring, permissions | search)
