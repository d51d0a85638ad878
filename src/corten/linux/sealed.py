"""Running this interpreter from a mount of its own that nobody can write to.

A container's program can reach the file that the process before its execve ran from, by /proc/<pid>/exe
(CVE-2019-5736). Opened through a read-only mount, that file cannot be opened for writing again, whoever asks.
"""

import os

from corten.linux import mount


def execute(arguments: list[str], environment: dict[str, str]) -> None:
    """execve of arguments[0], an absolute path of an ELF program, from a detached read-only mount. Raises OSError.

    The mount lives as long as a process runs from it, and is in no mount table. ps shows it under the number of a
    descriptor until it gives itself a name.
    """
    program = mount.copy_tree(os.path.realpath(arguments[0]), recursive=False)
    mount.set_attributes(program, mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV)
    os.execve(f"/proc/self/fd/{program}", arguments, environment)  # noqa: S606
