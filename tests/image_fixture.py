"""A daemon's images without its HTTP, containers and network: the real database, store and workers on a scratch root."""

import os
import shutil
import uuid

import pytest

from corten.base.paths import Layout
from corten.engine.db import Database
from corten.engine.events import Events
from corten.engine.images import Images

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="layers are unpacked as root")


# The beginning of a program that kills itself: it ends, by the same signal, when all that it has started has ended too.
UNDERTAKER = """
import ctypes, os
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
if first := os.fork():
    ends = dict()
    try:
        while True:
            pid, ends[pid] = os.wait()
    except ChildProcessError:
        os.kill(os.getpid(), os.WTERMSIG(ends[first]))
        os._exit(0)
"""


class NoContainers:
    """No containers, unless a test puts records into `records`."""

    def __init__(self):
        self.records = []

    def __iter__(self):
        return iter(self.records)

    def using_image(self, image_id):
        return [record for record in self.records if record.image_id == image_id]


class SmallEngine:
    """The parts of the engine that images see."""

    def __init__(self, root, storage_driver=""):
        self.layout = Layout(f"{root}/data", f"{root}/run")
        self.layout.make()
        self.db = Database(self.layout.database)
        self.events = Events()
        self.containers = NoContainers()
        self.images = Images(self, storage_driver)
        self.images.open()

    def close(self):
        self.images.store.snapshots.flush()
        self.db.close()

    def reopened(self):
        """The next daemon on the same root."""
        self.close()
        return SmallEngine(os.path.dirname(self.layout.data_root))


def _engine():
    root = f"/var/tmp/corten-test-images-{uuid.uuid4().hex[:8]}"
    os.makedirs(root)
    engine = SmallEngine(root)
    yield engine
    engine.close()
    shutil.rmtree(root)


@pytest.fixture
def engine():
    """A SmallEngine on its own root, gone afterwards."""
    yield from _engine()


@pytest.fixture(scope="module")
def shared_engine():
    """One for all tests of a file that do not mind each other's images."""
    yield from _engine()


async def pieces(path, size=1 << 16):
    """A file's bytes as a request's body brings them."""
    with open(path, "rb") as stream:
        while data := stream.read(size):
            yield data


async def one(data):
    """Some bytes as a body."""
    yield data


def write_save(engine, names, path):
    """`docker save` into a file, as the server would send it."""
    with open(path, "wb") as out:
        for piece in engine.images.save(names):
            if isinstance(piece, bytes):
                out.write(piece)
            else:
                out.write(os.pread(piece.fd, piece.size, piece.offset))


def tree(path):
    """Every path below a folder with its kind, mode, owner, size or link and xattrs: what must stay identical."""
    found = {}
    for folder, folders, files in os.walk(os.fsencode(path)):
        for name in folders + files:
            full = folder + b"/" + name
            stat = os.lstat(full)
            xattrs = tuple((x, os.getxattr(full, x, follow_symlinks=False))
                           for x in os.listxattr(full, follow_symlinks=False))
            body = os.readlink(full) if os.path.islink(full) else b""
            if os.path.isfile(full) and not os.path.islink(full):
                with open(full, "rb") as stream:
                    body = stream.read()
            found[full[len(os.fsencode(path)) + 1:]] = (
                stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev, int(stat.st_mtime), body, xattrs)
    return found
