"""Limits the image bytes that are in memory at the same time. Knows asyncio only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

FIRST_GUESS_BYTES = 4 * 1024 * 1024


class ByteBudget:
    """Makes pieces of work wait until their bytes fit; a piece larger than the whole budget runs alone.

    The size of a piece is known only after it was read. Until then it counts as the largest piece that was read so far,
    or as `guess_bytes` if none was.

    Args:
        total_bytes: largest number of bytes at the same time.
        guess_bytes: assumed size of a piece before any piece was read.
    """

    def __init__(self, total_bytes: int, guess_bytes: int = FIRST_GUESS_BYTES) -> None:
        self._total = total_bytes
        self._largest = guess_bytes
        self._read_any = False
        self._held = 0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def piece(self) -> AsyncIterator[Callable[[int], None]]:
        """Wait until a piece fits, and count its bytes while the block runs.

        Yields:
            A function to call with the piece's true size in bytes, as soon as that is known.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: not self._held or self._held + self._largest <= self._total)
            held = self._largest
            self._held += held

        def known(size: int) -> None:
            nonlocal held
            self._held += size - held
            held = size
            self._largest = max(self._largest, size) if self._read_any else size
            self._read_any = True

        try:
            yield known
        finally:
            self._held -= held
            async with self._changed:
                self._changed.notify_all()
