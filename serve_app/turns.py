"""Threads that callers take turns on: who brings much work does not hold up who brings little.

An executor's own queue is first come, first served: sixteen large images of one request would stand before every image
of the next. Here each caller has a queue, the queues are served in turn, and no caller holds every thread. Knows
asyncio only.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from serve_app.steps import Steps, advance

Value = TypeVar("Value")

SLICE_S = 0.05
"""A piece of work gives its thread back after the first step that ends later than this."""


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
        self._threads = self._idle = threads
        self._most = max(1, threads - 1)
        self._held: Counter[str] = Counter()
        self._queues: dict[str, deque[tuple[Callable[[], Any], asyncio.Future[Any]]]] = {}

    @property
    def queued(self) -> int:
        """Pieces of work that wait for a thread; those whose caller left count until their turn comes."""
        return sum(map(len, self._queues.values()))

    @property
    def busy(self) -> int:
        """Threads at work."""
        return self._threads - self._idle

    async def run(self, function: Callable[[], Value], caller: str) -> Value:
        """Call a function in a thread.

        Args:
            function: raises no StopIteration.
            caller: whose turn it counts to, such as a request id.

        Raises:
            Exception: what the function raises.
        """
        waiting: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(caller, deque()).append((function, waiting))
        self._start()
        return await waiting

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

    def _start(self) -> None:
        while self._idle and (work := self._take()) is not None:
            caller, function, waiting = work
            self._idle -= 1
            self._held[caller] += 1
            running = asyncio.get_running_loop().run_in_executor(self._executor, function)
            running.add_done_callback(partial(self._end, caller, waiting))

    def _take(self) -> tuple[str, Callable[[], Any], asyncio.Future[Any]] | None:
        """Take the next piece of the caller whose turn it is; drop what nobody waits for."""
        for caller, queue in [*self._queues.items()]:
            while queue and queue[0][1].done():
                queue.popleft()
            if queue and self._held[caller] >= self._most:
                continue
            del self._queues[caller]
            if queue:
                work = queue.popleft()
                if queue:
                    self._queues[caller] = queue  # at the end
                return caller, *work
        return None

    def _end(self, caller: str, waiting: asyncio.Future[Any], ran: asyncio.Future[Any]) -> None:
        self._idle += 1
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]
        self._start()
        error = ran.exception()
        if waiting.done():
            return
        if error is not None:
            waiting.set_exception(error)
        else:
            waiting.set_result(ran.result())
