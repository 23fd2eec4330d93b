"""Large blocks go back to the system when they are freed.

glibc keeps what a thread frees in that thread's own arena, to use it again. Where threads pass blocks of a megabyte to
each other, as downloads do to loaders, tens of megabytes that nobody uses stay behind in pieces too small for anybody.
"""

from __future__ import annotations

import sys

LARGE = 256 * 1024
"""Bytes from which a block is a mapping of its own, gone when it is freed. The system then clears its pages again: 2 %
of a restore's processor time (docs/performance.md).
"""

_M_MMAP_THRESHOLD = -3  # malloc.h of glibc; to set it also ends its growing with what is freed


def give_back_large_blocks() -> bool:
    """Tell this process's allocator so; False where it takes no such wish (musl, macOS, Windows)."""
    if sys.platform != "linux":
        return False
    import ctypes

    try:
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE) == 1)
    except (OSError, AttributeError):
        return False
