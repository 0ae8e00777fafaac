"""Memory that is used again and again, kept by the process."""

import ctypes

_MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -4, -1, -2  # names of mallopt(3)
_TOP_PAD_BYTES = 256 * 2**20


def keep_freed_memory() -> bool:
    """Has glibc keep freed memory; False where there is no glibc.

    By itself it gives every large block back to the system, and gets the next one page by page: a step of training on
    a CPU, which allocates the same large tensors each time, would spend much of its time there.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(*option) for option in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, _TOP_PAD_BYTES)))
