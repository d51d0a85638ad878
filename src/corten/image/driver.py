"""Which way containers' roots are made of layers: overlayfs, or plain copies (vfs) where overlay is not to be had.

Chosen once for a data root, when nothing is in it: by the operator, or by trying. The choice is written down beside
the layers, for theirs is another form under each driver. Nothing else of a driver is decided here: see snapshot.py.
"""

import os
import secrets
import stat

from corten.base.errors import InvalidArgument, Unsupported
from corten.base.files import atomic_write, read_bytes, remove_tree
from corten.linux.overlay import new_overlay

OVERLAY, VFS = "overlayfs", "vfs"
_NAMES = {"": "", "overlayfs": OVERLAY, "overlay2": OVERLAY, "overlay": OVERLAY, "vfs": VFS}
_FILE = "storage-driver"


def check_name(asked: str) -> str:
    """The driver `--storage-driver` means, docker's names too; "" stays "". Raises InvalidArgument."""
    if asked not in _NAMES:
        raise InvalidArgument(f"unsupported storage driver: {asked}: overlayfs and vfs are supported")
    return _NAMES[asked]


def choose(data_root: str, snapshots: str, asked: str = "") -> str:
    """The driver of a data root; remembered in it. `snapshots`: the folder of the layers, made when missing.

    Raises InvalidArgument (unknown, or another than the one its layers were made with), Unsupported (overlayfs was
    asked for and does not work there), OSError.
    """
    asked = check_name(asked)
    path = f"{data_root}/{_FILE}"
    try:
        kept = read_bytes(path, 64).decode("ascii").strip()
    except FileNotFoundError:
        kept = OVERLAY if os.path.isdir(f"{snapshots}/regions") else ""  # a root made before there was a choice
    if kept and asked and kept != asked:
        raise InvalidArgument(f"{data_root} was made with storage driver {kept}, it cannot be used with {asked}")
    if kept:
        return kept
    os.makedirs(snapshots, mode=0o755, exist_ok=True)
    reason = "" if asked == VFS else overlay_fault(snapshots)
    if reason and asked == OVERLAY:
        raise Unsupported(f"storage driver overlayfs does not work on {data_root}: {reason}")
    chosen = asked or (VFS if reason else OVERLAY)
    atomic_write(path, chosen.encode())
    return chosen


def overlay_fault(folder: str) -> str:
    """Why overlayfs cannot have its layers in a folder; "" when it can. Tried with a whiteout and an opaque mark."""
    place = f"{folder}/dead-{secrets.token_hex(8)}"  # cleared away at the next start, should this one be killed
    try:
        for name in ("below/hidden/x", "above/hidden", "up", "work"):
            os.makedirs(f"{place}/{name}")
        with open(f"{place}/below/gone", "wb"):
            pass
        os.mknod(f"{place}/above/gone", stat.S_IFCHR, 0)
        os.setxattr(f"{place}/above/hidden", "trusted.overlay.opaque", b"y")
        root = new_overlay([f"{place}/above", f"{place}/below"], f"{place}/up", f"{place}/work")
        try:
            folder_fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
            try:
                os.mkdir("made", dir_fd=folder_fd)
                os.rmdir("hidden", dir_fd=folder_fd)  # fails when x shows through; makes a whiteout of overlay's own
                return "" if os.listdir(folder_fd) == ["made"] else "it does not hide what a whiteout hides"
            finally:
                os.close(folder_fd)
        finally:
            os.close(root)
    except OSError as error:
        return error.strerror or str(error)
    finally:
        remove_tree(place)
