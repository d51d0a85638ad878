"""The C library's heap: what freed memory it keeps for the next asking. Standard library only."""

from corten.linux.libc import libc

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_freed(limit_bytes: int) -> None:
    """Keep up to `limit_bytes` of freed buffers for the next ones, instead of giving each back to the kernel.

    A buffer of a megabyte is else mapped, faulted in page by page and unmapped again each time: a third of what it
    costs to unpack a layer. mallopt(3); a C library without it does as it likes.
    """
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, min(limit_bytes, 32 << 20))  # glibc takes no more
        libc.mallopt(M_TRIM_THRESHOLD, limit_bytes)
