"""Let the C library keep the memory that tensors on the CPU leave behind, instead of giving it back at once."""

from __future__ import annotations

import ctypes
import platform

__all__ = ["keep_freed_memory"]

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD_BYTES = 256 * 2**20
_NEVER_TRIM_BYTES = 2**31 - 1


def keep_freed_memory() -> bool:
    """Makes glibc serve large blocks from a heap that does not shrink; elsewhere it does nothing.

    By default glibc maps and unmaps blocks over 32 MB at every allocation and hands the end of the heap back, and each
    time the pages are faulted in anew. The price is that the process holds on to the most memory that it ever needed.

    Returns:
        Whether anything was set.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER_TRIM_BYTES), (_M_TOP_PAD, _TOP_PAD_BYTES))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)
