"""Share slots and threads fairly, so that a caller with much work does not delay one with little.

An executor's own queue is first come, first served, so a small request would wait for all images of an earlier, large
request. Here each caller has a queue, the callers take turns, and no caller holds more than a fixed number of slots.

This module imports neither models nor Ray.
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
"""After this many seconds in a thread, a piece of work leaves the thread at the end of its current step."""


class FairSlots:
    """A fixed number of slots; waiting callers take turns to receive one.

    Args:
        slots: how many there are.
        per_caller: how many one caller may hold at the same time.
    """

    def __init__(self, slots: int, per_caller: int) -> None:
        self._slots = self._free = slots
        self._per_caller = per_caller
        self._held: Counter[str] = Counter()
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}

    @property
    def queued(self) -> int:
        """How many calls wait for a slot; a cancelled one counts until its turn comes."""
        return sum(map(len, self._queues.values()))

    @property
    def taken(self) -> int:
        """How many slots are held."""
        return self._slots - self._free

    async def acquire(self, caller: str) -> None:
        """Wait for a slot. If the wait is cancelled, no slot is taken."""
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(caller, deque()).append(granted)
        self._grant()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():  # granted and cancelled in one iteration of the event loop
                self.release(caller)
            raise

    def release(self, caller: str) -> None:
        """Return a slot."""
        self._free += 1
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]
        self._grant()

    @asynccontextmanager
    async def hold(self, caller: str) -> AsyncIterator[None]:
        """Hold a slot for a block."""
        await self.acquire(caller)
        try:
            yield
        finally:
            self.release(caller)

    def _grant(self) -> None:
        while self._free and (next_waiter := self._take()) is not None:
            caller, granted = next_waiter
            self._free -= 1
            self._held[caller] += 1
            granted.set_result(None)

    def _take(self) -> tuple[str, asyncio.Future[None]] | None:
        """Remove and return the next waiter whose caller may take another slot; drop cancelled waiters."""
        for caller, queue in [*self._queues.items()]:
            while queue and queue[0].done():
                queue.popleft()
            if queue and self._held[caller] >= self._per_caller:
                continue
            del self._queues[caller]
            if queue:
                granted = queue.popleft()
                if queue:
                    self._queues[caller] = queue  # the caller goes to the end of the round
                return caller, granted
        return None


class FairThreads:
    """A pool of threads in which callers take turns; one caller never holds all threads of a pool of two or more.

    If a caller is cancelled, its waiting work does not begin, and its work in steps ends after the current step. A
    function given to `run` counts as one step.

    Args:
        threads: how many there are.
        name: prefix of the threads' names.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(threads, name)
        self._slots = FairSlots(threads, max(1, threads - 1))
        self._threads = threads
        self._work = BusyTime()

    @property
    def queued(self) -> int:
        """Pieces of work that wait for a thread; cancelled ones count until their turn comes."""
        return self._slots.queued

    @property
    def busy(self) -> int:
        """How many threads work."""
        return self._slots.taken

    @property
    def busy_s(self) -> float:
        """Seconds of work so far, divided by the number of threads: grows by 1 per second while all threads work."""
        return self._work.seconds / self._threads

    async def run(self, function: Callable[[], Value], caller: str) -> Value:
        """Call a function in a thread.

        Args:
            function: must not raise StopIteration, because an asyncio future cannot hold it.
            caller: whose queue the call joins, such as a request id.

        Raises:
            Exception: any error that the function raises.
        """
        await self._slots.acquire(caller)
        self._work.begin()
        running = asyncio.get_running_loop().run_in_executor(self._executor, function)
        running.add_done_callback(partial(self._end, caller))
        return await asyncio.shield(running)  # a thread cannot be stopped, so its slot is held until it ends

    async def run_steps(self, steps: Steps[Value], caller: str) -> Value:
        """Run a piece of work in steps. After about SLICE_S seconds, the rest queues again, so that others get a turn.

        Args:
            steps: the work, a generator; nobody else may advance it.
            caller: as in `run`.

        Returns:
            The result of the work.

        Raises:
            Exception: any error that the work raises.
        """
        while (done := await self.run(partial(advance, steps, SLICE_S), caller)) is None:
            pass
        return done.value

    def _end(self, caller: str, running: asyncio.Future[Value]) -> None:
        running.exception()  # otherwise asyncio logs an error of the work if the caller was cancelled
        self._work.end()
        self._slots.release(caller)
