"""Bounded caches: least recently used out first, and work in flight done once.

Knows asyncio only: no models, no Ray.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class ByteLru(Generic[Value]):
    """A mapping bounded in bytes; the least recently used entries leave first.

    Args:
        max_bytes: bound of the sum of all entries; 0 keeps nothing.
        size: bytes of one entry, from its key and its value.
    """

    def __init__(self, max_bytes: int, size: Callable[[str, Value], int]) -> None:
        self._max_bytes = max_bytes
        self._size = size
        self._entries: OrderedDict[str, tuple[Value, int]] = OrderedDict()
        self.nbytes = 0

    def get(self, key: str) -> Value | None:
        """Return the value and mark it as used, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: str, value: Value) -> None:
        """Keep the value, unless it is larger than the whole bound."""
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
    """Looks a value up, or makes it; callers that ask for the same key at the same time wait for one making.

    Args:
        cache: where made values stay. Exceptions are not kept.
        observe: called with True for a hit (also for joining work in flight) and False for a miss.
    """

    def __init__(self, cache: ByteLru[Value], observe: Callable[[bool], None] = lambda _: None) -> None:
        self.cache = cache
        self._observe = observe
        self._flights: dict[str, tuple[asyncio.Task[Value], set[object]]] = {}

    async def get(self, key: str, make: Callable[[], Awaitable[Value]]) -> Value:
        """Return the key's value.

        Args:
            key: names the value's whole origin.
            make: makes it; cancelled when every caller that waits for it is.

        Raises:
            Exception: whatever `make` raises, to each caller that waits.
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
            # The task is shared: one caller's cancellation must not end it for the others.
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
