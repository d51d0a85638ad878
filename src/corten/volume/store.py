"""Where volumes live: `<root>/<name>/_data`, one folder each, as docker lays them out. Knows no containers."""

import os
import re

from corten.base.errors import InvalidArgument
from corten.base.files import remove_tree
from corten.base.ids import new_id

ANONYMOUS_LABEL = "com.docker.volume.anonymous"

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)


def check_name(name: str) -> None:
    """A name for a new volume. Raises InvalidArgument with docker's texts."""
    if len(name) == 1 and name.isascii() and name.isalnum():
        raise InvalidArgument(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )
    if not _NAME.fullmatch(name) or len(name) > 255:
        raise InvalidArgument(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )


def anonymous_name() -> str:
    """The name of a volume that was given none."""
    return new_id()


class Store:
    """The folder of all volumes of one daemon."""

    def __init__(self, root: str) -> None:
        self.root = root

    def data(self, name: str) -> str:
        """The folder that is mounted. Raises InvalidArgument for what is no volume's name."""
        check_name(name)
        return f"{self.root}/{name}/_data"

    def make(self, name: str) -> None:
        """The folders of a volume, whatever the umask; already there is fine (data is kept). Raises OSError."""
        data = self.data(name)
        for path, mode in ((f"{self.root}/{name}", 0o701), (data, 0o755)):
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                continue
            os.chmod(path, mode)

    def remove(self, name: str) -> None:
        """Remove a volume with its data, on its own file system only; absent is fine. Raises OSError."""
        check_name(name)
        remove_tree(f"{self.root}/{name}")

    def size_bytes(self, name: str) -> int:
        """The bytes its files take, each hard link once; links are not followed, what vanishes does not count."""
        total, seen = 0, set()
        folders = [self.data(name)]
        while folders:
            try:
                with os.scandir(folders.pop()) as entries:
                    for entry in entries:
                        found = entry.stat(follow_symlinks=False)
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                        elif (found.st_dev, found.st_ino) not in seen:
                            seen.add((found.st_dev, found.st_ino))
                            total += found.st_size
            except OSError:
                continue
        return total
