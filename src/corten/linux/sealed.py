"""Running this interpreter from a mount of its own that nobody can write to.

A container's program can reach the file that the process before its execve ran from, by /proc/<pid>/exe
(CVE-2019-5736). Opened through a read-only mount, that file cannot be opened for writing again, whoever asks.
"""

import fcntl
import os

from corten.linux import mount


def execute(arguments: list[str], environment: dict[str, str]) -> None:
    """execve of arguments[0], an absolute path of an ELF program, from a detached read-only mount. Raises OSError.

    The mount lives as long as a process runs from it, and is in no mount table. ps shows it under the number of a
    descriptor until it gives itself a name. Before Linux 5.12 a sealed copy in memory does the same, for 6 MiB.
    """
    path = os.path.realpath(arguments[0])
    bits = mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV
    program = mount.copy_tree(path, recursive=False)
    if not mount.try_change(program, mount.Change(bits)):
        program = _sealed_copy(path)
    os.execve(f"/proc/self/fd/{program}", arguments, environment)  # noqa: S606


def _sealed_copy(path: str) -> int:
    """A descriptor of a copy of the file that can never be written to again. memfd_create(2). Raises OSError."""
    copy = os.memfd_create("corten", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    while os.sendfile(copy, source, None, 1 << 24):
        pass
    os.close(source)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(copy, fcntl.F_ADD_SEALS, seals)
    return copy
