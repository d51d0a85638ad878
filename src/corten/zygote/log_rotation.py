"""Which segments of a container's log there are, and taking the old ones away. See log_format.py for the layout."""

import os

from corten.zygote.log_format import CONFIG_NAME, PACKED, Limits, segment_names, segment_numbers


def read_limits(folder: str) -> Limits:
    """The limits of a container's log; none when nothing is said."""
    try:
        descriptor = os.open(f"{folder}/{CONFIG_NAME}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return Limits()
    try:
        return Limits.from_bytes(os.read(descriptor, 100))
    finally:
        os.close(descriptor)


def newest(folder: str) -> int:
    """The number of the segment that is being written."""
    found = segment_numbers(os.listdir(folder))
    return found[-1] if found else 0


def drop_old(folder: str, current: int, limits: Limits) -> None:
    """Remove the segments beyond the number kept, with all that belongs to them."""
    names = set(os.listdir(folder))
    for number in segment_numbers(names):
        if number > current - limits.files:
            return
        log, index = segment_names(number)
        for name in (log, log + PACKED, log + PACKED + ".tmp", index):
            if name in names:
                try:
                    os.unlink(f"{folder}/{name}")
                except FileNotFoundError:
                    pass


def compress_aside(folder: str, number: int) -> None:
    """Compress a finished segment in a process of its own: the pump must not stop for it. No process: left as it is."""
    path = f"{folder}/{segment_names(number)[0]}"
    try:
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if os.fork() == 0:
            try:
                _compress(source, path)
            finally:
                os._exit(0)
    except OSError:
        pass
    finally:
        os.close(source)


def _compress(source: int, path: str) -> None:
    os.dup2(source, 3)
    os.closerange(4, 1 << 20)  # the pump's pipes must not live longer for this
    import zlib

    packer = zlib.compressobj(1, wbits=31)
    target = os.open(f"{path}{PACKED}.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    offset = 0
    while data := os.pread(3, 1 << 20, offset):
        offset += len(data)
        _write_all(target, packer.compress(data))
    _write_all(target, packer.flush())
    os.rename(f"{path}{PACKED}.tmp", f"{path}{PACKED}")
    os.unlink(path)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data):]
