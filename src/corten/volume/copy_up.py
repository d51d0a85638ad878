"""Filling a new volume with what the image has at its place: owners, modes, times, extended attributes, links.

The image is read through a detached, read-only overlay mount (nobody else sees it) and by descriptors only: no path in
it is followed by string, links are copied as links, devices are not opened. Nothing in the volume that somebody has put
there meanwhile is overwritten or followed. Parses nothing.
"""

import os
from collections.abc import Sequence

from corten.linux import mount
from corten.linux.overlay import new_overlay
from corten.linux.path import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, open_in_root, openat2
from corten.linux.tree import FOLDER, copy_tree


def open_place(volume: str, subpath: str) -> int:
    """The folder of a volume, or one beneath it, links followed inside the volume. Raises OSError. Close it."""
    root = os.open(volume, FOLDER)
    if not subpath:
        return root
    try:
        return openat2(root, subpath, os.O_RDONLY | os.O_DIRECTORY, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
    finally:
        os.close(root)


def copy_up(layers: Sequence[str], path: str, target: int) -> bool:
    """Copy the folder `path` of an image (`layers`: folders, topmost first) into the empty folder open at `target`.

    False when the image has no folder there. Raises OSError. Blocks: run it in a thread.
    """
    root = _image(layers)
    try:
        try:
            source = open_in_root(root, path, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return False
    finally:
        os.close(root)
    try:
        copy_tree(source, target)
    finally:
        os.close(source)
    return True


def _image(layers: Sequence[str]) -> int:
    """The root of the image, read-only; overlay wants two layers at least."""
    if len(layers) == 1:
        return os.open(layers[0], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    attributes = mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NODEV | mount.MOUNT_ATTR_NOSUID
    return new_overlay(list(layers), "", "", attributes)
