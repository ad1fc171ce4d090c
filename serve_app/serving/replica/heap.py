"""The C library's heap, in a process that handles many requests and large files.

Python and Ray free what a request took, but glibc keeps the freed memory: between what stays there are holes, and they
grow over tens of thousands of requests. Measured with 26,000 small requests: the used part of an ingress's heap grew
from 35.4 to 35.9 MiB, the holes grew from 11 to 22 MiB. The heap of a bare Serve deployment grows in the same way.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from functools import cache

LARGE_BYTES = 256 * 1024
TRIM_EVERY_S = 10.0
"""One trim of a heap of 60 MiB took 1 to 6 ms under load; the thread does not hold Python's lock meanwhile."""
_MMAP_THRESHOLD, _ARENA_MAX = -3, -8  # Source: malloc.h of glibc


@cache
def keep_heap_small(trim_every_s: float = TRIM_EVERY_S) -> None:
    """Tell glibc to give freed memory back to the system; without glibc, do nothing.

    Buffers of LARGE_BYTES and more go back as soon as they are freed. By itself glibc raises that bound to the largest
    buffer it has seen freed (up to 32 MiB): request bodies then come from one heap a thread, whose holes between them
    add up. Smaller ones go back at the next trim, where they leave a whole page free.

    Called again with the same pause, it does nothing.

    Args:
        trim_every_s: pause between two trims, in seconds.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
        libc.mallopt(_ARENA_MAX, 2)
        trim = libc.malloc_trim
    except (OSError, AttributeError):
        return
    threading.Thread(target=_trim_again_and_again, args=(trim, trim_every_s), name="heap-trim", daemon=True).start()


def _trim_again_and_again(trim: Callable[[int], int], every_s: float) -> None:
    while True:
        time.sleep(every_s)
        trim(0)
