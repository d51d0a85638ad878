"""The file system of a container: its root, the mounts on it, its devices, what is hidden of it.

Every target is resolved inside the root (openat2) and used as a descriptor; no path below the root is opened by string.
"""

import errno
import posix
import stat

from corten.base import pathnames
from corten.base.errors import InvalidArgument
from corten.linux import fd, mount, overlay, path, process
from corten.linux.mount import Change
from corten.linux.proc import read_text
from corten.runtime import borrowed_mounts, cgroup_mount, devices, proc_targets, sources
from corten.runtime.copy_up import copy_up
from corten.runtime.errors import StepFailed, go_strerror
from corten.runtime.mount_options import Mount
from corten.runtime.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_NO_SUPERBLOCK_RO = frozenset(("proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts", "tmpfs"))
_REAL_FOLDERS = ("proc", "sysfs")
_ROOTS = ("/", "//")


def prepare(plan: Plan) -> int:
    """Keep our mounts from the host, put the root in place; returns a descriptor of it.

    An overlay is mounted here, in this mount namespace, so the host never has it in its table.
    """
    propagation, _ = plan.propagation
    if not plan.own_mounts:
        pass  # they are others' as well
    elif propagation == mount.MS_SHARED:
        _make_parent_private(plan.rootfs)
    else:
        mount.set_propagation("/", mount.MS_SLAVE if propagation == mount.MS_UNBINDABLE else propagation, True)
    layers = plan.bundle.overlay
    changes = [Change(propagation=_root_propagation(plan))]
    if layers is None:
        root = mount.copy_tree(plan.rootfs, recursive=True)
    elif not layers["lower"]:
        root = mount.copy_tree(layers["upper"], recursive=False)
        changes.append(Change(mount.MOUNT_ATTR_NODEV))
    else:
        root = overlay.new_overlay(layers["lower"], layers.get("upper") or "", layers.get("work") or "")
    target = posix.open(plan.rootfs, path.O_PATH | posix.O_DIRECTORY)
    mount.attach_changed(root, target, changes)
    posix.close(target)
    return root


def _root_propagation(plan: Plan) -> int:
    """The root is its own unless the spec has it follow the host's mounts."""
    asked = (plan.bundle.spec.get("linux") or {}).get("rootfsPropagation")
    return mount.MS_SLAVE if asked in ("slave", "rslave") else mount.MS_PRIVATE


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
            place = pathnames.split(place)[0]


def mount_all(plan: Plan, root: int, take: "Callable[[Mount], int]") -> tuple[int, int]:
    """The spec's mounts in their order. `take` gives a source that only the parent may open, else -1.

    Returns descriptors of the root, which is another one when something was mounted on `/`, and of the container's own
    devpts, -1 when it has none.
    """
    devpts = -1
    for entry in plan.mounts:
        try:
            made = _mount_one(plan, root, entry, take)
        except OSError as error:
            raise _mount_failed(entry, error) from None
        if pathnames.normal(f"/{entry.destination}") in _ROOTS:
            posix.close(root)
            root = made
        elif entry.kind == "devpts" and devpts < 0:
            devpts = made
        else:
            posix.close(made)
    if plan.program.cwd != "/":
        _make_cwd(root, plan.program.cwd)
    return root, devpts


def _make_cwd(root: int, cwd: str) -> None:
    try:
        posix.close(path.make_folder(root, cwd))
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


def _mount_one(plan: Plan, root: int, entry: Mount, take: "Callable[[Mount], int]") -> int:
    link = sources.copied_link(entry)
    if link:
        path.make_link(root, entry.destination, link)
        return posix.dup(root)
    if entry.bind:
        made = _bind(root, entry, take)
    elif entry.kind == "cgroup":
        made = cgroup_mount.mount_cgroups(plan, root, entry)
    else:
        made = _new(plan, root, entry)
    for bits, recursive in entry.propagation:
        mount.change(made, Change(propagation=bits, recursive=recursive))
    return made


def _bind(root: int, entry: Mount, take: "Callable[[Mount], int]") -> int:
    """A copy of the source's mount, changed before anybody sees it, on a target of the same kind made if missing."""
    tree = take(entry)
    if tree < 0:
        tree = sources.open_source(entry)
    if "dest-nofollow" in entry.links:
        target = path.make_last(root, entry.destination, path.is_folder(tree))
    elif path.is_folder(tree):
        target = path.make_folder(root, entry.destination)
    else:
        target = path.make_file(root, entry.destination)
        if path.is_folder(target):
            raise OSError(errno.ENOTDIR, "move_mount: Not a directory")
    _attach(entry, tree, target, entry.changes)
    return tree


def _new(plan: Plan, root: int, entry: Mount) -> int:
    """A new file system; of sysfs, where a user namespace may not mount one, the host's, read-only."""
    covers = entry.kind == "tmpfs" and path.exists_in_root(root, entry.destination)
    if entry.kind in _REAL_FOLDERS:
        target = _real_folder(root, entry.destination, entry.kind)
    else:
        target = path.make_folder(root, entry.destination)
    options = [("source", entry.source or entry.kind), *entry.data]
    if entry.read_only and entry.kind not in _NO_SUPERBLOCK_RO:
        options.append(("ro", None))
    if covers and not any(key == "mode" for key, _ in entry.data):
        options.append(("mode", f"{stat.S_IMODE(posix.fstat(target).st_mode):o}"))  # as what it covers, like runc
    bits = entry.set_bits
    if entry.kind == "tmpfs":
        bits &= ~mount.MOUNT_ATTR_RDONLY  # later mounts may need a place in it; `finish` makes it read-only
    changes = []
    try:
        made = mount.new_mount(entry.kind, options, bits)
    except PermissionError:
        if entry.kind != "sysfs" or not plan.user_namespace:
            raise
        made = mount.copy_tree("/sys", recursive=True)  # no new one without a network namespace of its own
        changes = [Change(bits | mount.MOUNT_ATTR_RDONLY, recursive=True)]
    if entry.copy_up:
        copy_up(target, made)
    _attach(entry, made, target, changes)
    return made


def _attach(entry: Mount, tree: int, target: int, changes: list[Change]) -> None:
    try:
        proc_targets.check(entry, tree, target)
        mount.attach_changed(tree, target, changes)
    finally:
        posix.close(target)


def _real_folder(root: int, destination: str, kind: str) -> int:
    """The target of proc and sysfs: a folder of the rootfs itself, no symbolic link on the way (CVE-2019-19921)."""
    try:
        made = path.make_folder(root, destination)
        posix.close(made)
        return path.open_in_root(
            root, destination, posix.O_PATH | posix.O_DIRECTORY, path.IN_ROOT | path.RESOLVE_NO_SYMLINKS
        )
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise InvalidArgument(f'filesystem "{kind}" must be mounted on ordinary directory') from None
        raise


def make_devices(plan: Plan, root: int, take: "Callable[[devices.Device], int]") -> None:
    """Nodes and links below /dev; a /dev bound from elsewhere is left as it is, one that is a link is refused."""
    if devices.are_brought(plan.mounts):
        return
    over = any(pathnames.normal(entry.destination) == "/dev" for entry in plan.mounts)
    if not over and path.is_link(root, "dev"):
        raise InvalidArgument("/dev of the root is a symbolic link")
    before = posix.umask(0)
    try:
        devices.make_nodes(root, plan.devices, take)
        devices.make_links(root)
    finally:
        posix.umask(before)


def bind_console(root: int, slave: int) -> None:
    """The terminal as /dev/console: the very device of the descriptor, whatever its name leads to by now."""
    target = path.make_file(root, "/dev/console", 0o600)
    tree = mount.copy_tree("", recursive=False, folder=slave)
    try:
        mount.attach(tree, target)
    finally:
        posix.close(tree)
        posix.close(target)


def mask_paths(plan: Plan, root: int) -> None:
    """Read-only paths, then masked ones: files covered by the host's own /dev/null, folders by an empty tmpfs.

    The cover is opened before the root is entered and checked to be the null device: a container that swaps its own
    /dev/null gains nothing (CVE-2025-31133). Paths that are absent are passed over.
    """
    for name in plan.readonly_paths:
        found = _open_below(root, name)
        if found >= 0:
            tree = mount.copy_tree("", recursive=True, folder=found)
            mount.attach_changed(tree, found, [Change(mount.MOUNT_ATTR_RDONLY, recursive=True)])
            posix.close(tree)
            posix.close(found)
    if not plan.masked_paths:
        return
    empty = -1
    for name in dict.fromkeys(plan.masked_paths):
        found = _open_below(root, name)
        if found < 0:
            continue
        changes = []
        if not path.is_folder(found):
            cover = _null_device()
            changes = [Change(mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NOEXEC)]
        elif empty < 0:  # attached itself: to close one that is not costs a grace period of the kernel's
            cover = empty = _empty_folder()
        else:
            cover = mount.copy_tree("", recursive=False, folder=empty)
        mount.attach_changed(cover, found, changes)
        if cover != empty:
            posix.close(cover)
        posix.close(found)
    if empty >= 0:
        posix.close(empty)


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
    found = posix.fstat(tree)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != posix.makedev(1, 3):
        raise OSError(errno.ENODEV, "open_tree: not the null device", "/dev/null")
    return tree


def _move_root(root: int, rootfs: str) -> None:
    """Without pivot_root the host's mounts stay below: those of proc and sysfs are taken away before.

    A whole one within reach would let a container mount another (the kernel's mnt_already_visible).
    """
    for line in read_text("/proc/self/mountinfo", 16 << 20).splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(" "), right.split(" ")[0]
        point = fields[4].encode().decode("unicode_escape")
        if kind not in _REAL_FOLDERS or fields[3] != "/" or f"{point}/".startswith(f"{rootfs}/"):
            continue
        try:
            mount.set_propagation(point, mount.MS_SLAVE, True)
            mount.umount(point, mount.MNT_DETACH)
        except FileNotFoundError:
            continue  # went with one above it
    mount.attach(root, posix.open("/", path.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC))
    posix.chroot(".")
    posix.chdir("/")


def pivot(plan: Plan, root: int) -> None:
    """Make late things read-only, then make the root the root, and the rest of the host's file systems go away."""
    for entry in plan.mounts:
        if entry.kind == "tmpfs" and not entry.bind and entry.read_only:
            target = path.open_in_root(root, entry.destination)
            mount.set_attributes(target, mount.MOUNT_ATTR_RDONLY)
            posix.close(target)
    if plan.readonly_root:
        mount.set_attributes(root, mount.MOUNT_ATTR_RDONLY)
    if not plan.lent:
        process.forget_imports()
    if not plan.own_mounts:
        borrowed_mounts.enter(root)
        return
    posix.fchdir(root)
    if plan.no_pivot:
        _move_root(root, plan.rootfs)
    else:
        mount.pivot_root_here()
    propagation, recursive = plan.propagation
    if propagation != mount.MS_SLAVE:
        mount.set_propagation("/", propagation, recursive)
    if fd.filesystem_type(root) == fd.PROC_SUPER_MAGIC:
        raise InvalidArgument("root.path is a proc file system")
