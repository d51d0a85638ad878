"""What the init may not open or make itself, handed to it by the parent as detached mounts.

In a user namespace the init is root over its own ids only: a source below a folder of mode 0700 is out of its reach,
though root asked for it, and so is mknod. And to map the ids of a mount takes the file system's owner. So a short-lived
process with the parent's rights joins the new mount namespace alone, and hands over the channel each tree that the init
asks for, when it asks: the source may lie on a mount that the spec names before. They are copies made within that
namespace, so whatever the kernel has locked on its mounts stays locked. Device nodes are made in a tmpfs that only this
process ever sees; the host's own are not touched.
"""

import errno
import posix
import stat

from corten.base.errors import InvalidArgument
from corten.linux import mount, namespaces, path, user
from corten.runtime import sync
from corten.runtime.devices import Device, are_brought, make_node
from corten.runtime.errors import StepFailed, from_exception, go_strerror
from corten.runtime.mount_options import Mount
from corten.runtime.plan import Plan


def wanted(plan: Plan) -> list[Mount | Device]:
    """What comes from the parent: bind mounts, then devices, each in the spec's order."""
    by_root = plan.user_namespace and not plan.unprivileged
    found: list[Mount | Device] = [entry for entry in plan.mounts if entry.mounts_of or (
        entry.bind and (entry.idmap or by_root) and not copied_link(entry))]
    if by_root and not are_brought(plan.mounts):
        found += [device for device in plan.devices if not stat.S_ISFIFO(device.mode)]
    return found


def send(plan: Plan, child: int, channel: int) -> None:
    """Open what is `wanted` in the mount namespace of the process `child`, each when it asks. Returns when it has all.

    What cannot be opened is told to the child, which fails with it; when it says something else than asking, that is
    left in the channel. Raises OSError.
    """
    if not wanted(plan):
        return
    posix.set_blocking(channel, True)
    pid, pidfd = namespaces.clone3(0)
    if pid == 0:
        try:
            _send_all(plan, child, channel)
        except BaseException as error:  # nothing may unwind into the parent's code
            sync.send(channel, sync.pack_failure(from_exception("open the mounts' sources", error)))
        finally:
            posix._exit(0)
    posix.close(pidfd)
    posix.waitpid(pid, 0)


def _send_all(plan: Plan, child: int, channel: int) -> None:
    mapped = folder = -1
    for count in range(len(wanted(plan))):
        number = sync.asked(channel)
        if number < 0:
            return
        if not count:  # by now it is where it stays
            mapped = namespaces.open_of(child, "user") if plan.user_namespace else -1
            namespaces.setns(namespaces.open_of(child, "mnt"), namespaces.CLONE_NEWNS)
        entry = _all(plan)[number]
        if isinstance(entry, Mount):
            tree = _open_source(entry, mapped) if not entry.mounts_of else _open_elsewhere(entry, child)
        else:
            if folder < 0:
                folder = _private_folder(plan.rootfs)
            tree = _make_device(entry, folder, str(number), plan)
        sync.send(channel, sync.SOURCE, tree)
        posix.close(tree)


def _all(plan: Plan) -> list[Mount | Device]:
    return [*plan.mounts, *plan.devices]


def _private_folder(place: str) -> int:
    """An empty tmpfs on `place` in a mount namespace of our own."""
    namespaces.unshare(namespaces.CLONE_NEWNS)
    mount.set_propagation("/", mount.MS_PRIVATE, True)
    target = posix.open(place, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    folder = mount.new_mount("tmpfs", [("mode", "700")])
    mount.attach(folder, target)
    posix.umask(0)
    return folder


def _make_device(device: Device, folder: int, name: str, plan: Plan) -> int:
    owner, group = user.mapped(plan.uid_map, device.uid), user.mapped(plan.gid_map, device.gid)
    make_node(folder, name, Device(device.path, device.mode, device.device, max(owner, 0), max(group, 0)))
    return mount.copy_tree(name, recursive=False, folder=folder)


def _open_elsewhere(entry: Mount, child: int) -> int:
    """A copy of a mount of another process, which must be made in its mount namespace."""
    home = namespaces.open_of(child, "mnt")
    try:
        namespaces.setns(namespaces.open_of(entry.mounts_of, "mnt"), namespaces.CLONE_NEWNS)
        try:
            return mount.copy_tree(entry.source, recursive=False, follow=False)
        finally:
            namespaces.setns(home, namespaces.CLONE_NEWNS)
    except OSError as error:
        number = error.errno or 0
        text = f"cannot share {entry.source} of process {entry.mounts_of}: {go_strerror(number)}"
        raise StepFailed("mount", "open_tree", number, entry.source, text) from None
    finally:
        posix.close(home)


def _open_source(entry: Mount, mapped: int) -> int:
    try:
        return _open(entry, mapped)
    except (OSError, InvalidArgument) as error:
        text = f'error mounting "{entry.source}" to rootfs at "{entry.destination}": '
        if isinstance(error, InvalidArgument):
            raise StepFailed("mount", path=entry.source, detail=f"{text}{error}") from None
        number = error.errno or 0
        call, separator, _ = (error.strerror or "").partition(": ")
        text += f"{call if separator else 'open'} {entry.source}: {go_strerror(number)}"
        raise StepFailed("mount", call if separator else "", number, entry.source, text) from None


def _open(entry: Mount, mapped: int) -> int:
    tree = open_source(entry)
    if not entry.idmap:
        return tree
    try:
        userns = mapped
        if entry.uid_map:
            userns = user.open_mapped_namespace(entry.uid_map, entry.gid_map)
        elif mapped < 0:
            raise InvalidArgument("idmap mount without mappings in a container without a user namespace")
        asked = mount.Change(mount.MOUNT_ATTR_IDMAP, recursive=entry.idmap == "ridmap", userns=userns)
        mount.change(tree, asked)
        if userns != mapped:
            posix.close(userns)
    except BaseException:
        posix.close(tree)
        raise
    return tree


def copied_link(entry: Mount) -> str:
    """What a source that is a symbolic link leads to, when the link itself is to be made; else ""."""
    if "copy-symlink" not in entry.links:
        return ""
    try:
        return posix.readlink(entry.source)
    except OSError:  # it is none
        return ""


def open_source(entry: Mount) -> int:
    """A copy of the mount that is a bind mount's source. Raises OSError, StepFailed."""
    if entry.subpath:
        return _beneath(entry)
    return mount.copy_tree(entry.source, entry.recursive, follow="src-nofollow" not in entry.links)


def _beneath(entry: Mount) -> int:
    """A copy of what lies beneath the source, found once: who writes there may exchange a folder for a link."""
    source = posix.open(entry.source, path.O_PATH | posix.O_DIRECTORY)
    try:
        found = path.openat2(source, entry.subpath, path.O_PATH, path.RESOLVE_BENEATH | path.RESOLVE_NO_MAGICLINKS)
    except OSError as error:
        text = f"cannot access path {entry.source}/{entry.subpath}: {go_strerror(error.errno or 0)}"
        if error.errno == errno.EXDEV:
            text = f"path concatenation escapes the base directory, base: {entry.source}, subpath: {entry.subpath}"
        raise StepFailed("mount", "openat2", error.errno or 0, entry.destination, text) from None
    finally:
        posix.close(source)
    try:
        return mount.copy_tree("", entry.recursive, found)
    finally:
        posix.close(found)


class Asked:
    """In the child: what the parent opens for it, asked for one by one."""

    __slots__ = ("_channel", "_numbers")

    def __init__(self, plan: Plan, channel: int) -> None:
        asked = set(wanted(plan))
        self._channel = channel
        self._numbers = {entry: number for number, entry in enumerate(_all(plan)) if entry in asked}

    def take(self, entry: Mount | Device) -> int:
        """The tree of one entry; -1 for one that the child opens itself. Raises StepFailed."""
        number = self._numbers.get(entry, -1)
        if number < 0:
            return -1
        sync.send(self._channel, sync.SOURCE + str(number).encode())
        message, tree = sync.receive(self._channel)
        if message[:1] == sync.FAILED:
            raise sync.unpack_failure(message)
        if tree < 0:
            posix._exit(125)
        return tree
