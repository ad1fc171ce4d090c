"""Slots and threads that callers take turns on: who brings much work does not hold up who brings little.

An executor's own queue is first come, first served: sixteen large images of one request would stand before every image
of the next. Here each caller has a queue, the queues are served in turn, and one caller holds so many slots at most.
Knows asyncio only.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from serve_app.masks.steps import Steps, advance
from serve_app.serving.replica.work import BusyTime

Value = TypeVar("Value")

SLICE_S = 0.05
"""A piece of work gives its thread back after the first step that ends later than this."""


class FairSlots:
    """A number of slots, lent to callers in turn.

    Args:
        slots: how many.
        each: the most that one caller holds.
    """

    def __init__(self, slots: int, each: int) -> None:
        self._slots = self._free = slots
        self._each = each
        self._held: Counter[str] = Counter()
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}

    @property
    def queued(self) -> int:
        """Those who wait for a slot; who left counts until its turn comes."""
        return sum(map(len, self._queues.values()))

    @property
    def taken(self) -> int:
        """Slots that are lent."""
        return self._slots - self._free

    async def acquire(self, caller: str) -> None:
        """Wait for a slot; a caller that is cancelled meanwhile gets none."""
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(caller, deque()).append(granted)
        self._lend()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():  # lent in the same turn of the event loop
                self.release(caller)
            raise

    def release(self, caller: str) -> None:
        """Give a slot back."""
        self._free += 1
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]
        self._lend()

    @asynccontextmanager
    async def hold(self, caller: str) -> AsyncIterator[None]:
        """Hold a slot for a block."""
        await self.acquire(caller)
        try:
            yield
        finally:
            self.release(caller)

    def _lend(self) -> None:
        while self._free and (lent := self._take()) is not None:
            caller, granted = lent
            self._free -= 1
            self._held[caller] += 1
            granted.set_result(None)

    def _take(self) -> tuple[str, asyncio.Future[None]] | None:
        """Find whose turn it is; drop who left."""
        for caller, queue in [*self._queues.items()]:
            while queue and queue[0].done():
                queue.popleft()
            if queue and self._held[caller] >= self._each:
                continue
            del self._queues[caller]
            if queue:
                granted = queue.popleft()
                if queue:
                    self._queues[caller] = queue  # at the end
                return caller, granted
        return None


class FairThreads:
    """A pool of threads, of which one caller holds all but one at most.

    Work that nobody waits for any more, because its caller was cancelled, is not begun; a piece of work in steps ends
    after the step under way. So a thread is idle one step after the last caller left.

    Args:
        threads: how many.
        name: of the threads.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(threads, name)
        self._slots = FairSlots(threads, max(1, threads - 1))
        self._threads = threads
        self._work = BusyTime()

    @property
    def queued(self) -> int:
        """Pieces of work that wait for a thread; those whose caller left count until their turn comes."""
        return self._slots.queued

    @property
    def busy(self) -> int:
        """Threads at work."""
        return self._slots.taken

    @property
    def busy_s(self) -> float:
        """Seconds of work, divided by the number of threads: it grows by 1 a second while all of them work."""
        return self._work.seconds / self._threads

    async def run(self, function: Callable[[], Value], caller: str) -> Value:
        """Call a function in a thread.

        Args:
            function: raises no StopIteration.
            caller: whose turn it counts to, such as a request id.

        Raises:
            Exception: what the function raises.
        """
        await self._slots.acquire(caller)
        self._work.begin()
        running = asyncio.get_running_loop().run_in_executor(self._executor, function)
        running.add_done_callback(partial(self._end, caller))
        return await asyncio.shield(running)  # a thread cannot be stopped: it is taken until it is done

    async def run_steps(self, steps: Steps[Value], caller: str) -> Value:
        """Run a piece of work, a turn for every SLICE_S seconds of it.

        Args:
            steps: the work; nobody else may use it.
            caller: as for `run`.

        Raises:
            Exception: what the work raises.
        """
        while (done := await self.run(partial(advance, steps, SLICE_S), caller)) is None:
            pass
        return done.value

    def _end(self, caller: str, running: asyncio.Future[Value]) -> None:
        running.exception()  # seen, also where nobody waits for it
        self._work.end()
        self._slots.release(caller)
