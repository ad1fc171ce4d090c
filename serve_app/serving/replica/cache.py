"""A cache with a limit in bytes, and a cache whose concurrent callers share one computation of a missing value.

This module imports neither models nor Ray.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class ByteLru(Generic[Value]):
    """A mapping with a limit in bytes, which removes the least recently used entries first.

    Args:
        max_bytes: limit of the sum of all entries; 0 keeps nothing.
        size: returns the bytes of an entry from its key and its value.

    >>> cache = ByteLru[str](2, lambda key, value: len(value))
    >>> for key in "abc":
    ...     cache.put(key, "x")
    >>> cache.get("a"), cache.get("c")
    (None, 'x')
    """

    def __init__(self, max_bytes: int, size: Callable[[str, Value], int]) -> None:
        self._max_bytes = max_bytes
        self._size = size
        self._entries: OrderedDict[str, tuple[Value, int]] = OrderedDict()
        self.nbytes = 0

    def get(self, key: str) -> Value | None:
        """Return the key's value and mark it as used; None if there is none."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: str, value: Value) -> None:
        """Store a value, unless it alone is over the limit."""
        size = self._size(key, value)
        if size > self._max_bytes:
            return
        if key in self._entries:
            self.nbytes -= self._entries.pop(key)[1]
        self._entries[key] = (value, size)
        self.nbytes += size
        while self.nbytes > self._max_bytes:
            self.nbytes -= self._entries.popitem(last=False)[1][1]


class CachedWork(Generic[Value]):
    """Looks values up and makes missing ones; concurrent callers with the same key share one computation.

    Args:
        cache: stores the values. Exceptions are not stored.
        observe: called with True for a hit (also if the computation is already running) and False for a miss.
    """

    def __init__(self, cache: ByteLru[Value], observe: Callable[[bool], None] = lambda _: None) -> None:
        self.cache = cache
        self._observe = observe
        self._flights: dict[str, tuple[asyncio.Task[Value], set[object]]] = {}

    async def get(self, key: str, make: Callable[[], Awaitable[Value]]) -> Value:
        """Return the key's value.

        Args:
            key: must determine the value completely.
            make: makes the value; cancelled when all its waiting callers are cancelled.

        Raises:
            Exception: any error that `make` raises; each waiting caller gets it.
        """
        cached = self.cache.get(key)
        if cached is not None:
            self._observe(True)
            return cached
        flight = self._flights.get(key)
        self._observe(flight is not None)
        if flight is None:
            flight = (asyncio.ensure_future(self._make(key, make)), set())
            self._flights[key] = flight
        task, waiting = flight
        me = object()
        waiting.add(me)
        try:
            # One caller's cancellation must not cancel the task for the others.
            return await asyncio.shield(task)
        finally:
            waiting.discard(me)
            if not waiting and not task.done():
                self._flights.pop(key, None)
                task.cancel()

    async def _make(self, key: str, make: Callable[[], Awaitable[Value]]) -> Value:
        try:
            value = await make()
            self.cache.put(key, value)
            return value
        finally:
            current = asyncio.current_task()
            if key in self._flights and self._flights[key][0] is current:
                del self._flights[key]
