"""Whether compressing a file is worth its time: told from samples, the same answer each time."""

import os

_SAMPLES = 16
_SAMPLE_BYTES = 64 << 10
_WORTH = 0.95


def compressible(descriptor: int, size: int) -> bool:
    """Whether samples spread over the first `size` bytes shrink by a twentieth at least (media, archives do not)."""
    from isal import isal_zlib

    read = packed = 0
    for at in range(_SAMPLES):
        sample = os.pread(descriptor, _SAMPLE_BYTES, size // _SAMPLES * at)
        read += len(sample)
        packed += len(isal_zlib.compress(sample, 1))
    return packed < read * _WORTH
