"""The overlay file system: a container's root from its image's layers and a folder of its own."""

import errno
import os

from corten.linux import mount

_PAGE = 4096  # mount(2)'s option page: what the one `lowerdir` option of an older kernel may hold
_append: bool | None = None  # whether the kernel takes `lowerdir+` (Linux 6.5); known after the first mount


def new_overlay(lower: list[str], upper: str, work: str, attributes: int = mount.MOUNT_ATTR_NODEV) -> int:
    """A detached overlay mount. `lower` has the topmost layer first; no `upper` (""): read-only. Raises OSError.

    overlayfs.rst. Layers go one by one with `lowerdir+`, which has no limit on length and no escapes; where the kernel
    lacks it as one option, with `:` and `\\` escaped.
    """
    global _append
    if _append is None:
        try:
            descriptor = _mount(lower, upper, work, attributes, True)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        else:
            _append = True
            return descriptor
        # Linux before 6.5 says only that something was wrong with the options, so the old form decides
        descriptor = _mount(lower, upper, work, attributes, False)
        _append = False
        return descriptor
    return _mount(lower, upper, work, attributes, _append)


def _mount(lower: list[str], upper: str, work: str, attributes: int, append: bool) -> int:
    with mount.FilesystemContext("overlay") as context:
        context.set("source", "overlay")
        if append:
            for folder in lower:
                context.set("lowerdir+", folder)
        else:
            context.set("lowerdir", ":".join(map(_escape, lower)))
        if upper:
            context.set("upperdir", upper if append else _escape(upper))
            context.set("workdir", work if append else _escape(work))
        return context.mount(attributes)


def _escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def make_folders(upper: str, work: str) -> None:
    """The upper and work folders, where they are missing."""
    for path in (upper, work):
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            continue
