"""The process that reads and writes a container's files for `cp` and `export`: it sees that container's tree alone.

Question (one JSON object on stdin): {"op": "stat" | "get" | "put" | "export", "path", "data": descriptor,
"namespace": descriptor of a running container's mount namespace or -1, "overlay": {"lower", "upper", "work"} of a
stopped one, "place": an empty folder to mount it on, "mounts": [{"source", "destination", "rw", "type"}], "kind": the
compression,
"keep_kinds": refuse to replace a folder by a file or the other way round, "owner": [uid, gid] or null}.
Answer: {"stat"} as one line for stat and get, then {"done"} at the end; or {"error", "text"}. Tar goes over `data`.
Standard library only.
"""

import gc
import json
import os
import sys
from contextlib import contextmanager, nullcontext

from corten.base.errors import Error, InvalidArgument, NotFound
from corten.image import rootfs_view
from corten.image.beneath import open_across
from corten.image.confine import CLONE_NEWNS, MNT_DETACH, enter_here
from corten.image.extract import Extractor
from corten.image.inflate import StreamSource, chunks_of, preload
from corten.image.pack import Packer
from corten.image.tar_reader import Reader
from corten.image.worker_side import HEAP_BYTES, error_answer
from corten.linux import mount
from corten.linux.heap import keep_freed
from corten.linux.libc import check, libc
from corten.linux.overlay import new_overlay
from corten.linux.path import make_folder, open_in_root
from corten.linux.topdir import set_topdir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from corten.image.tar_reader import Entry

CPU_SECONDS = 3600
MEMORY_BYTES = 512 << 20
LIMIT_BYTES = 1 << 42
MS_PRIVATE = 1 << 18


# --- the view: what is `/` for this process


def _view_running(namespace: int, kept: "set[str]") -> None:
    """A private copy of a running container's mounts, less all that is neither its root nor wanted (proc, sys, dev)."""
    own = os.open("/proc/self", os.O_PATH | os.O_CLOEXEC)
    check(libc.setns(namespace, CLONE_NEWNS), "setns")
    check(libc.unshare(CLONE_NEWNS), "unshare")
    mount.set_propagation("/", MS_PRIVATE, True)
    table = os.open("mountinfo", os.O_RDONLY | os.O_CLOEXEC, dir_fd=own)
    with open(table, encoding="utf-8", errors="surrogateescape") as lines:
        points = [rootfs_view.unescape(line.split(" ", 5)[4]) for line in lines]
    os.close(own)
    for point in reversed(points):
        if point != "/" and not any(point == keep or point.startswith(keep + "/") for keep in kept):
            try:
                mount.umount(point, MNT_DETACH)
            except OSError:
                continue  # gone with the mount it was below
    os.chdir("/")


def _view_stopped(question: "dict[str, Any]", write: bool) -> None:
    """The overlay of a stopped container with its volumes, mounted where nobody else sees it."""
    check(libc.unshare(CLONE_NEWNS), "unshare")
    mount.set_propagation("/", MS_PRIVATE, True)
    overlay, place = question["overlay"], str(question["place"])
    lower = list(overlay["lower"])
    _attach_at(mount.new_mount("tmpfs", [("mode", "0700")]), place)
    for name in ("upper", "work", "root"):
        os.mkdir(f"{place}/{name}", 0o755)
    if not lower:  # the upper is the whole root
        tree = mount.copy_tree(overlay["upper"], recursive=False)
    elif write:
        tree = new_overlay(lower, overlay["upper"], overlay["work"])
    else:  # the container's own layer is just the topmost; what mount points need goes into memory, and is forgotten
        tree = new_overlay([overlay["upper"], *lower], f"{place}/upper", f"{place}/work")
    _attach_at(tree, f"{place}/root")
    root = os.open(f"{place}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for point in question["mounts"]:
        _add_mount(root, point, write)
    os.fchdir(root)
    check(libc.chroot(b"."), "chroot")
    os.chdir("/")
    os.close(root)


def _attach_at(tree: int, path: str) -> None:
    target = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mount.attach(tree, target)
    os.close(target)
    os.close(tree)


def _add_mount(root: int, point: "dict[str, Any]", write: bool) -> None:
    if not point["source"].startswith("/"):
        return  # a tmpfs: it lives as long as its container runs
    try:
        tree = mount.copy_tree(point["source"], recursive=True)
    except OSError:
        return  # its source is gone: the container shows what is below
    try:
        read_only = [] if write and point["rw"] else [mount.Change(mount.MOUNT_ATTR_RDONLY, recursive=True)]
        try:
            target = open_in_root(root, point["destination"])
        except FileNotFoundError:
            if not rootfs_view.is_directory(tree):
                return
            target = make_folder(root, point["destination"])
        mount.attach_changed(tree, target, read_only)
        os.close(target)
    finally:
        os.close(tree)


# --- the operations


def _say(answer: "dict[str, Any]") -> None:
    data = json.dumps(answer).encode() + b"\n"
    while data:
        data = data[os.write(1, data):]


def _get(root: int, question: "dict[str, Any]") -> None:
    found = rootfs_view.find(root, question["path"])
    try:
        _say({"stat": found.stat(root)})
        if question["op"] == "get":
            packer = Packer(int(question["data"]), whiteouts=False)
            found.pack(packer)
    finally:
        found.close()


def _export(question: "dict[str, Any]") -> None:
    packer = Packer(int(question["data"]), whiteouts=False)
    packer.run(os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


class _Rebased(Reader):
    """The members of an archive, named from a folder below the root; refuses what `keep_kinds` forbids."""

    def __init__(self, source: StreamSource, prefix: bytes, question: "dict[str, Any]", root: int) -> None:
        super().__init__(source)
        self._prefix = prefix
        self._owner: list[int] | None = question["owner"]
        self._keep = bool(question["keep_kinds"])
        self._root = root

    def __iter__(self) -> "Iterator[Entry]":
        for entry in super().__iter__():
            name = rootfs_view.clean_name(entry.name)
            if not name and entry.kind == b"5":
                continue  # the folder it goes into stays as it is, as docker has it
            if self._keep:
                rootfs_view.check_kind(self._root, self._prefix, name, entry)
            entry.name = b"/".join(part for part in (self._prefix, name) if part)
            if entry.kind == b"1":
                entry.link = b"/".join(part for part in (self._prefix, rootfs_view.clean_name(entry.link)) if part)
            if self._owner is not None:
                entry.uid, entry.gid = self._owner
            yield entry


def _put(root: int, question: "dict[str, Any]") -> None:
    prefix = os.fsencode(rootfs_view.follow(root, question["path"])).strip(b"/")
    try:
        target = open_across(root, prefix, os.O_PATH)
    except OSError:
        raise NotFound("") from None
    if not rootfs_view.is_directory(target):
        raise InvalidArgument("extraction point is not a directory")
    own = os.fstat(target).st_dev == os.stat("/").st_dev  # neither a volume nor a folder of the host's
    os.close(target)
    _say({"ready": True})
    with _spread(root, prefix) if own else nullcontext():
        _extract(root, question, prefix)


@contextmanager
def _spread(root: int, prefix: bytes) -> "Iterator[None]":
    """Folders made in the target meanwhile have regions of their own: it may have been emptied a moment ago."""
    target = open_across(root, prefix, os.O_RDONLY | os.O_DIRECTORY)
    before = set_topdir(target, True)
    try:
        yield
    finally:
        set_topdir(target, before)
        os.close(target)


def _extract(root: int, question: "dict[str, Any]", prefix: bytes) -> None:
    source = StreamSource(chunks_of(int(question["data"]), str(question["kind"])), LIMIT_BYTES, hashed=False)
    extractor = Extractor(root, whiteouts=False, limit_bytes=LIMIT_BYTES, cross_mounts=True)
    extractor.run(_Rebased(source, prefix, question, root))
    source.finish()


def _work(question: "dict[str, Any]") -> None:
    operation = question["op"]
    write = operation == "put"
    if write and question["kind"]:
        preload({str(question["kind"])})
    if int(question["namespace"]) >= 0:
        _view_running(int(question["namespace"]), {point["destination"] for point in question["mounts"]})
        os.close(int(question["namespace"]))
    else:
        _view_stopped(question, write)
    enter_here(write=write, cpu_seconds=CPU_SECONDS, memory_bytes=MEMORY_BYTES)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if write:
        _put(root, question)
    elif operation == "export":
        _export(question)
    else:
        _get(root, question)


def main() -> None:
    """Entry point of the process."""
    gc.disable()  # short-lived, and nothing here makes cycles
    keep_freed(HEAP_BYTES)
    try:
        _work(json.loads(sys.stdin.buffer.read()))
        answer: dict[str, Any] = {"done": True}
    except BrokenPipeError:
        answer = {"done": False}
    except (Error, OSError, MemoryError) as error:
        answer = error_answer(error)
    _say(answer)
    os._exit(0)
