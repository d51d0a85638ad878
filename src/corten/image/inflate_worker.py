"""The process that inflates a compressed archive on its way in: stdin to stdout, seeing no files at all."""

import os

from corten.image.confine import READER_CAPABILITIES, enter
from corten.image.inflate import chunks_of, preload
from corten.image.worker_side import HEAP_BYTES
from corten.linux.heap import keep_freed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def main() -> None:
    """Entry point; argv: kind of compression after our module's name is read from descriptor 0's first line."""
    head = b""
    while not head.endswith(b"\n"):
        head += os.read(0, 1)
    keep_freed(HEAP_BYTES)
    kind, root, limit = head.decode().split("\0")
    preload({kind})
    enter(root, write=False, cpu_seconds=3600, memory_bytes=1 << 30, capabilities=READER_CAPABILITIES)
    left = int(limit)
    chunks: Iterator[bytes] = chunks_of(0, kind)
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            os.write(2, b"the archive inflates to more than the limit\n")
            os._exit(3)
        view = memoryview(chunk)
        while view:
            view = view[os.write(1, view):]
    os._exit(0)
