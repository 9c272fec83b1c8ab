"""Settings of glibc's allocator for CPU tensors."""

from __future__ import annotations

import ctypes
import platform

__all__ = ["keep_freed_memory"]

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD_BYTES = 256 * 2**20
_NEVER_TRIM_BYTES = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make glibc reuse freed memory for large blocks instead of returning it to the kernel; elsewhere do nothing.

    By default, glibc maps and unmaps blocks over 32 MB on every allocation and trims the top of the heap, which causes
    new page faults each time. In exchange, the process keeps its peak memory until it exits.

    Returns:
        Whether the settings were applied.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER_TRIM_BYTES), (_M_TOP_PAD, _TOP_PAD_BYTES))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)
