"""An overlay of two read-only layers and a writable one, and what a write, a copy-up and a removal leave. Needs root.

    python3 docs/kernel/examples/overlay.py

The mount is never put anywhere: only its descriptor reaches it, and it is gone when that is closed.
"""

import os
import stat
import tempfile

from corten.linux.overlay import new_overlay


def write(path: str, text: str, folder: int | None = None) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=folder)
    os.write(descriptor, text.encode())
    os.close(descriptor)


def show(title: str, folder: str) -> None:
    print(title)
    for name in sorted(os.listdir(folder)):
        status = os.lstat(os.path.join(folder, name))
        whiteout = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
        print(f"    {name}" + ("  (a whiteout: character device 0:0)" if whiteout else ""))


def main() -> None:
    with tempfile.TemporaryDirectory() as top:
        base, added, upper, work = (os.path.join(top, name) for name in ("base", "added", "upper", "work"))
        for path in (base, added, upper, work):
            os.mkdir(path)
        write(f"{base}/kept", "from the lowest layer\n")
        write(f"{base}/changed", "old\n")
        write(f"{base}/removed", "soon hidden\n")
        write(f"{added}/hello", "from the layer above\n")
        mounted = new_overlay([added, base], upper, work)  # topmost first, as an image's layers are stacked
        root = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=mounted)
        print("merged:", sorted(os.listdir(root)))
        write("changed", "new\n", root)
        write("own", "written by the container\n", root)
        os.unlink("removed", dir_fd=root)
        print("merged:", sorted(os.listdir(root)))
        os.close(root)
        os.close(mounted)
        show("upper, what the container has changed (docker diff, commit):", upper)
        show("base, untouched:", base)


if __name__ == "__main__":
    main()
