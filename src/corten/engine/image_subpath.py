"""One path inside an image, for a mount of it alone: which folders of the image's layers make it up.

Links on the way are followed inside the image and never out of it. What lies in layers is written by strangers: nothing
is opened by a path before the kernel has found it beneath the image's root.
"""

import errno
import os
import stat

from corten.base.errors import InvalidArgument, NotFound
from corten.linux.overlay import new_overlay
from corten.linux.path import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, openat2


def layers_beneath(layers: list[str], subpath: str) -> list[str]:
    """What of an image's layers (topmost first) makes up one path in it, as overlayfs would merge it.

    Raises NotFound, InvalidArgument for a path whose links lead out of the image (moby internal/safepath).
    """
    subpath = _without_links(layers, subpath)
    found: list[str] = []
    for layer in layers:
        place, hides = _beneath(layer, subpath)
        if place and (os.path.isdir(place) or not found):
            found.append(place)
        if hides or (place and not os.path.isdir(place)):
            break
    return found


def _without_links(layers: list[str], subpath: str) -> str:
    """Where a path leads to, relative to the image's root, "." for that itself."""
    read_only = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    root = new_overlay(layers, "", "") if len(layers) > 1 else os.open(layers[0], read_only)
    try:
        found = openat2(root, os.path.normpath(subpath), os.O_PATH | os.O_CLOEXEC,
                        RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
        try:
            return os.path.relpath(_path_of(found), _path_of(root))
        finally:
            os.close(found)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise InvalidArgument(
                f"path concatenation escapes the base directory, subpath: {subpath}") from None
        text = (os.strerror(error.errno or 0)).lower()
        raise NotFound(f"cannot access path {subpath} of the image: {text}") from None
    finally:
        os.close(root)


def _path_of(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


def _beneath(layer: str, subpath: str) -> tuple[str, bool]:
    """(the path in this layer or "", whether it hides what lower layers have there). Layers never change."""
    place, hides = layer, False
    names = subpath.split("/") if subpath != "." else []
    for number, name in enumerate(names, 1):
        place = f"{place}/{name}"
        try:
            status = os.lstat(place)
        except FileNotFoundError:
            return "", hides
        if not stat.S_ISDIR(status.st_mode):
            whiteout = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
            return ("" if whiteout or number < len(names) else place), True
        hides = hides or _is_opaque(place)
    return place, hides


def _is_opaque(folder: str) -> bool:
    try:
        return os.getxattr(folder, "trusted.overlay.opaque", follow_symlinks=False) == b"y"
    except OSError:
        return False
