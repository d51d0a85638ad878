"""A root of one's own: tmpfs, the host's /usr read-only, a fresh /proc, then pivot_root. Needs root.

    python3 docs/kernel/examples/pivot_root.py [COMMAND ...]
"""

import os
import sys

from corten.linux import mount
from corten.linux.namespaces import CLONE_NEWNS, CLONE_NEWPID, clone3


def attach_at(descriptor: int, path: str) -> None:
    """Put a detached mount on a folder."""
    target = os.open(path, os.O_PATH | os.O_DIRECTORY)
    mount.attach(descriptor, target)
    os.close(target)
    os.close(descriptor)


def enter_new_root() -> None:
    """The steps of a container's init, in small: see corten/runtime/rootfs.py."""
    mount.set_propagation("/", mount.MS_PRIVATE, recursive=True)  # nothing below reaches the host's mount table
    attach_at(mount.new_mount("tmpfs", [("mode", "755")]), "/mnt")
    os.chdir("/mnt")
    for name in ("usr", "proc"):
        os.mkdir(name)
    for name in ("bin", "lib", "lib64"):
        os.symlink(f"usr/{name}", name)
    usr = mount.copy_tree("/usr", recursive=True)
    mount.set_attributes(usr, to_set=mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID, recursive=True)
    attach_at(usr, "usr")
    attach_at(mount.new_mount("proc", []), "proc")
    mount.pivot_root_here()


def main() -> int:
    command = sys.argv[1:] or ["/bin/sh", "-c", "echo root: $(ls /); echo pid: $$; cat /proc/mounts; "
                               "touch /usr/x 2>&1 || echo /usr is read-only"]
    sys.stdout.flush()
    pid, pidfd = clone3(CLONE_NEWNS | CLONE_NEWPID)
    if pid == 0:
        try:
            enter_new_root()
            os.execv(command[0], command)
        except OSError as error:
            os.write(2, f"{error}\n".encode())
            os._exit(1)
    os.close(pidfd)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
