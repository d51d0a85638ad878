"""The file system of a container: its root, the mounts on it, its devices, what is hidden of it.

Every target is resolved inside the root (openat2) and used as a descriptor; no path below the root is opened by string.
"""

import errno
import os
import stat

from corten.base.errors import InvalidArgument
from corten.linux import fd, mount, overlay, path
from corten.runtime import cgroup_mount, devices
from corten.runtime.errors import StepFailed, go_strerror
from corten.runtime.mount_options import Mount
from corten.runtime.plan import Plan

_NO_SUPERBLOCK_RO = frozenset(("proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts", "tmpfs"))
_REAL_FOLDERS = ("proc", "sysfs")
_MAX_COPY_UP = 1 << 20


def prepare(plan: Plan) -> int:
    """Keep our mounts from the host, put the root in place; returns a descriptor of it.

    An overlay is mounted here, in this mount namespace, so the host never has it in its table.
    """
    propagation, _ = plan.propagation
    if propagation == mount.MS_SHARED:
        _make_parent_private(plan.rootfs)
    else:
        mount.set_propagation("/", mount.MS_SLAVE if propagation == mount.MS_UNBINDABLE else propagation, True)
    if plan.bundle.overlay is None:
        root = mount.copy_tree(plan.rootfs, recursive=True)
    else:
        layers = plan.bundle.overlay
        root = overlay.new_overlay(layers["lower"], layers.get("upper") or "", layers.get("work") or "")
    target = os.open(plan.rootfs, path.O_PATH | os.O_DIRECTORY)
    mount.set_attributes(root, propagation=mount.MS_PRIVATE)
    mount.attach(root, target)
    os.close(target)
    return root


def _make_parent_private(rootfs: str) -> None:
    """The mount that the root lies on must not be shared: neither our root nor pivot_root may reach the host."""
    place = rootfs
    while True:
        try:
            mount.set_propagation(place, mount.MS_PRIVATE, False)
            return
        except OSError as error:
            if error.errno != errno.EINVAL or place == "/":
                raise
            place = os.path.dirname(place)


def mount_all(plan: Plan, root: int) -> int:
    """The spec's mounts in their order; returns a descriptor of the container's own devpts, -1 when it has none."""
    devpts = -1
    for entry in plan.mounts:
        try:
            made = _mount_one(plan, root, entry)
        except OSError as error:
            raise _mount_failed(entry, error) from None
        if entry.kind == "devpts" and devpts < 0:
            devpts = made
        else:
            os.close(made)
    if plan.program.cwd != "/":
        _make_cwd(root, plan.program.cwd)
    return devpts


def _make_cwd(root: int, cwd: str) -> None:
    try:
        os.close(path.make_folder(root, cwd))
    except OSError as error:
        text = f"Cannot mkdir: {cwd} is not a directory" if error.errno == errno.ENOTDIR else (
            f"mkdir {cwd}: {go_strerror(error.errno or 0)}")
        raise StepFailed("mount", "mkdir", error.errno or 0, cwd, text) from None


def _mount_failed(entry: Mount, error: OSError) -> StepFailed:
    number = error.errno or 0
    source = entry.source or entry.kind
    call, separator, _ = (error.strerror or "").partition(": ")
    what = call if separator else "make mountpoint"
    text = f'error mounting "{source}" to rootfs at "{entry.destination}": {what} {error.filename or ""}'.rstrip()
    text += f": {go_strerror(number)}" if number else f": {error.strerror}"
    if number == errno.ENOTDIR:
        text += (
            ": Are you trying to mount a directory onto a file (or vice-versa)? "
            "Check if the specified host path exists and is the expected type"
        )
    return StepFailed("mount", what, number, entry.destination, text)


def _mount_one(plan: Plan, root: int, entry: Mount) -> int:
    if entry.bind:
        made = _bind(root, entry)
    elif entry.kind == "cgroup":
        made = cgroup_mount.mount_cgroups(plan, root, entry)
    else:
        made = _new(root, entry)
    for bits, recursive in entry.propagation:
        mount.set_attributes(made, propagation=bits, recursive=recursive)
    return made


def _bind(root: int, entry: Mount) -> int:
    """A copy of the source's mount, changed before anybody sees it, on a target of the same kind made if missing."""
    tree = mount.copy_tree(entry.source, entry.recursive)
    if entry.set_bits or entry.clear_bits:
        mount.set_attributes(tree, entry.set_bits, entry.clear_bits)
    if entry.recursive_set or entry.recursive_clear:
        mount.set_attributes(tree, entry.recursive_set, entry.recursive_clear, recursive=True)
    if path.is_folder(tree):
        target = path.make_folder(root, entry.destination)
    else:
        target = path.make_file(root, entry.destination)
        if path.is_folder(target):
            raise OSError(errno.ENOTDIR, "move_mount: Not a directory")
    _attach(tree, target)
    return tree


def _new(root: int, entry: Mount) -> int:
    covers = entry.kind == "tmpfs" and path.exists_in_root(root, entry.destination)
    if entry.kind in _REAL_FOLDERS:
        target = _real_folder(root, entry.destination, entry.kind)
    else:
        target = path.make_folder(root, entry.destination)
    options = [("source", entry.source or entry.kind), *entry.data]
    if entry.read_only and entry.kind not in _NO_SUPERBLOCK_RO:
        options.append(("ro", None))
    if covers and not any(key == "mode" for key, _ in entry.data):
        options.append(("mode", f"{stat.S_IMODE(os.fstat(target).st_mode):o}"))  # as what it covers, like runc
    bits = entry.set_bits
    if entry.kind == "tmpfs":
        bits &= ~mount.MOUNT_ATTR_RDONLY  # later mounts may need a place in it; `finish` makes it read-only
    made = mount.new_mount(entry.kind, options, bits)
    if entry.copy_up:
        _copy_up(target, made)
    _attach(made, target)
    return made


def _attach(tree: int, target: int) -> None:
    try:
        mount.attach(tree, target)
    finally:
        os.close(target)


def _real_folder(root: int, destination: str, kind: str) -> int:
    """The target of proc and sysfs: a folder of the rootfs itself, no symbolic link on the way (CVE-2019-19921)."""
    try:
        made = path.make_folder(root, destination)
        os.close(made)
        return path.open_in_root(
            root, destination, os.O_PATH | os.O_DIRECTORY, path.IN_ROOT | path.RESOLVE_NO_SYMLINKS
        )
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise InvalidArgument(f'filesystem "{kind}" must be mounted on ordinary directory') from None
        raise


def _copy_up(source: int, target: int) -> None:
    """tmpcopyup: what the folder holds goes into the tmpfs that covers it, with modes and owners."""
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=source)
    there = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=target)
    try:
        for name in os.listdir(here):
            _copy_entry(here, there, name)
    finally:
        os.close(here)
        os.close(there)


def _copy_entry(here: int, there: int, name: str) -> None:
    found = os.stat(name, dir_fd=here, follow_symlinks=False)
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFLNK:
        os.symlink(os.readlink(name, dir_fd=here), name, dir_fd=there)
    elif kind == stat.S_IFDIR:
        os.mkdir(name, 0o700, dir_fd=there)
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        outer = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=there)
        for below in os.listdir(inner):
            _copy_entry(inner, outer, below)
        os.close(inner)
        os.close(outer)
    elif kind == stat.S_IFREG:
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=there)
        while os.sendfile(target, source, None, _MAX_COPY_UP):
            pass
        os.close(source)
        os.close(target)
    else:
        return
    os.chown(name, found.st_uid, found.st_gid, dir_fd=there, follow_symlinks=False)
    if kind != stat.S_IFLNK:
        os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=there)


def make_devices(plan: Plan, root: int) -> None:
    """Nodes and links below /dev; a /dev bound from elsewhere is left as it is."""
    if any(entry.bind and os.path.normpath(entry.destination) == "/dev" for entry in plan.mounts):
        return
    before = os.umask(0)
    try:
        devices.make_nodes(root, plan.devices)
        devices.make_links(root)
    finally:
        os.umask(before)


def bind_console(root: int, slave: int) -> None:
    """The terminal as /dev/console: the very device of the descriptor, whatever its name leads to by now."""
    target = path.make_file(root, "/dev/console", 0o600)
    tree = mount.copy_tree("", recursive=False, folder=slave)
    try:
        mount.attach(tree, target)
    finally:
        os.close(tree)
        os.close(target)


def mask_paths(plan: Plan, root: int) -> None:
    """Read-only paths, then masked ones: files covered by the host's own /dev/null, folders by an empty tmpfs.

    The cover is opened before the root is entered and checked to be the null device: a container that swaps its own
    /dev/null gains nothing (CVE-2025-31133). Paths that are absent are passed over.
    """
    for name in plan.readonly_paths:
        found = _open_below(root, name)
        if found >= 0:
            tree = mount.copy_tree("", recursive=True, folder=found)
            mount.set_attributes(tree, mount.MOUNT_ATTR_RDONLY, recursive=True)
            mount.attach(tree, found)
            os.close(tree)
            os.close(found)
    if not plan.masked_paths:
        return
    empty = -1
    for name in plan.masked_paths:
        found = _open_below(root, name)
        if found < 0:
            continue
        if not path.is_folder(found):
            cover = _null_device()
        elif empty < 0:  # attached itself: to close one that is not costs a grace period of the kernel's
            cover = empty = _empty_folder()
        else:
            cover = mount.copy_tree("", recursive=False, folder=empty)
        mount.attach(cover, found)
        if cover != empty:
            os.close(cover)
        os.close(found)
    if empty >= 0:
        os.close(empty)


def _open_below(root: int, name: str) -> int:
    try:
        return path.open_in_root(root, name)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return -1


def _empty_folder() -> int:
    """One empty read-only tmpfs for all masked folders. Attached nowhere yet; copies of it are."""
    bits = (
        mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV | mount.MOUNT_ATTR_NOEXEC
    )
    return mount.new_mount("tmpfs", [("source", "tmpfs"), ("nr_blocks", "1"), ("nr_inodes", "1")], bits)


def _null_device() -> int:
    tree = mount.copy_tree("/dev/null", recursive=False)
    found = os.fstat(tree)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(1, 3):
        raise OSError(errno.ENODEV, "open_tree: not the null device", "/dev/null")
    mount.set_attributes(tree, mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NOEXEC)
    return tree


def pivot(plan: Plan, root: int) -> None:
    """Make late things read-only, then make the root the root, and the rest of the host's file systems go away."""
    for entry in plan.mounts:
        if entry.kind == "tmpfs" and not entry.bind and entry.read_only:
            target = path.open_in_root(root, entry.destination)
            mount.set_attributes(target, mount.MOUNT_ATTR_RDONLY)
            os.close(target)
    if plan.readonly_root:
        mount.set_attributes(root, mount.MOUNT_ATTR_RDONLY)
    os.fchdir(root)
    mount.pivot_root_here()
    propagation, recursive = plan.propagation
    if propagation != mount.MS_SLAVE:
        mount.set_propagation("/", propagation, recursive)
    if fd.filesystem_type(root) == fd.PROC_SUPER_MAGIC:
        raise InvalidArgument("root.path is a proc file system")
