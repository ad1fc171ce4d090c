"""The C library's heap, in a process through which large files pass."""

from __future__ import annotations

import ctypes

LARGE_BYTES = 256 * 1024
_MMAP_THRESHOLD, _ARENA_MAX = -3, -8  # Source: malloc.h of glibc


def give_back_large_buffers() -> None:
    """Tell glibc to return buffers of LARGE_BYTES and more as soon as they are freed; elsewhere, do nothing.

    By itself it raises that bound to the largest buffer it has seen freed (up to 32 MiB): request bodies then come from
    one heap a thread, whose holes between them add up.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    libc.mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
    libc.mallopt(_ARENA_MAX, 2)
