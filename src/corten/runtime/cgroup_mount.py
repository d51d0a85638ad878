"""A container's view of the control groups: the mount of type `cgroup` in its spec.

On v2 it is the one tree. On v1 a tmpfs with one folder a controller. Either way the container's own groups are bound
from the host's mounts: with a cgroup namespace these are its roots, the same view that a mount of its own would give,
in a third of the time.
"""

import posix

from corten.base import pathnames
from corten.linux import cgroup, mount, path
from corten.linux.mount import Change
from corten.runtime.mount_options import Mount
from corten.runtime.plan import Plan


def mount_cgroups(plan: Plan, root: int, entry: Mount) -> int:
    """Returns the descriptor of the topmost mount. Raises OSError."""
    found = cgroup.hierarchies()
    if not found.mounts:
        return _mount_unified(plan, root, entry)
    target = path.make_folder(root, entry.destination)
    bits = entry.set_bits & ~mount.MOUNT_ATTR_RDONLY
    made = mount.new_mount("tmpfs", [("source", "tmpfs"), ("mode", "755"), ("nr_inodes", "64")], bits)
    mount.attach(made, target)
    posix.close(target)
    for place in found.mounts:
        name = pathnames.split(place)[1]
        posix.mkdir(name, 0o755, dir_fd=made)
        below = posix.open(name, path.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW, dir_fd=made)
        tree = mount.copy_tree(place + plan.cgroup, recursive=False)
        mount.attach(tree, below)
        posix.close(tree)
        posix.close(below)
        if "," in name:  # cpu,cpuacct: each controller can be found by its own name
            for controller in name.split(","):
                posix.symlink(name, controller, dir_fd=made)
    mount.set_attributes(made, entry.set_bits, recursive=True)
    return made


def _mount_unified(plan: Plan, root: int, entry: Mount) -> int:
    target = path.make_folder(root, entry.destination)
    try:
        made = mount.copy_tree(cgroup.hierarchies().unified + plan.cgroup, recursive=False)
        mount.attach_changed(made, target, [Change(entry.set_bits)])
    finally:
        posix.close(target)
    return made
