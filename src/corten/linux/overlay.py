"""The overlay file system: a container's root from its image's layers and a folder of its own."""

import errno

from corten.linux import mount
from corten.linux.libc import syscall

_PAGE = 4096  # mount(2)'s option page: what all options of an older kernel may hold
_CLONE_FS, _CLONE_NEWNS = 0x200, 0x20000
_MS_FLAGS = {mount.MOUNT_ATTR_RDONLY: 1, mount.MOUNT_ATTR_NOSUID: 2, mount.MOUNT_ATTR_NODEV: 4}
_append: bool | None = None  # whether the kernel takes `lowerdir+` (Linux 6.7); known after the first mount


def new_overlay(lower: list[str], upper: str, work: str, attributes: int = mount.MOUNT_ATTR_NODEV) -> int:
    """A detached overlay mount. `lower` has the topmost layer first; no `upper` (""): read-only. Raises OSError.

    overlayfs.rst. Layers go one by one with `lowerdir+`, which has no limit on length and no escapes; a kernel that
    lacks it takes all of them in one option of mount(2): fsconfig(2) cuts a value at 256 bytes.
    """
    global _append
    if _append is False:
        return _old_mount(lower, upper, work, attributes)
    try:
        descriptor = _mount(lower, upper, work, attributes)
    except OSError as error:
        if _append or error.errno != errno.EINVAL:
            raise
        try:
            descriptor = _old_mount(lower, upper, work, attributes)
        except OSError:
            raise error from None  # not for want of `lowerdir+`
        _append = False
    else:
        _append = True
    return descriptor


def _mount(lower: list[str], upper: str, work: str, attributes: int) -> int:
    with mount.FilesystemContext("overlay") as context:
        context.set("source", "overlay")
        for folder in lower:
            context.set("lowerdir+", folder)
        if upper:
            context.set("upperdir", upper)
            context.set("workdir", work)
        return context.mount(attributes)


def _old_mount(lower: list[str], upper: str, work: str, attributes: int) -> int:
    """By mount(2), in a mount namespace made for it and left again: no other process sees it come and go.

    Names are relative to the folder all layers are in, so that 128 of them fit the page. A thread that calls this
    has a working folder of its own from now on (unshare(CLONE_FS); setns(2) demands it).
    """
    import os

    home = os.path.commonpath(lower)
    options = "lowerdir=" + ":".join(_escape(os.path.relpath(folder, home)) for folder in lower)
    if upper:
        options += f",upperdir={_escape(upper)},workdir={_escape(work)}"
    data = os.fsencode(options)
    if len(data) >= _PAGE:
        raise OSError(errno.E2BIG, "mount: too many layers for the options of this kernel's overlay")
    flags = sum(flag for attribute, flag in _MS_FLAGS.items() if attributes & attribute)
    before = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscall("unshare", _CLONE_FS | _CLONE_NEWNS)
        try:
            mount.set_propagation("/", mount.MS_PRIVATE, True)
            os.chdir(home)
            target = os.fsencode(lower[0])  # any folder: the mount is not seen there by anybody
            syscall("mount", b"overlay", target, b"overlay", flags, data)
            return mount.copy_tree(lower[0], recursive=False)
        finally:
            syscall("setns", before, _CLONE_NEWNS)
            os.fchdir(here)
    finally:
        os.close(before)
        os.close(here)


def _escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
