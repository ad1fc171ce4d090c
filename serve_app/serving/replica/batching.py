"""Batch the items of many callers: form a batch when the model's thread becomes free, not earlier.

A timer-based batcher forms a batch as soon as its time window closes, even while the model is busy. So it sends many
small batches under load. A `PullBatcher` pulls the items that wait when the thread becomes free: a single item starts
immediately, and under load batches grow by themselves.

This module imports neither models nor Ray.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, TypeVar

from serve_app.errors import InternalError, Overloaded
from serve_app.serving.replica.work import DeviceWork, PassTimes

Item = TypeVar("Item")
Result = TypeVar("Result")


class ModelThread:
    """The thread of a replica's models, which several batchers share.

    Batchers get the thread in the order in which they ask for it. Inside a batcher, callers take turns.

    Args:
        executor: runs one job at a time, because the models are not thread-safe.

    Attributes:
        lock: held by the batcher whose batch is running.
        work: measures the work done and the work queued by all batchers.
    """

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.lock = asyncio.Lock()
        self.work = DeviceWork()


def _ignore(batch_size: int) -> None:
    """Do nothing, for callers that need not know when their items begin."""


@dataclass(frozen=True, eq=False, slots=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    future: asyncio.Future[Result]
    on_begin: Callable[[int], None]


class PullBatcher(Generic[Item, Result]):
    """Groups items of many callers into batches of limited cost.

    Args:
        thread: runs the batches.
        run: processes a batch: returns one result or one exception for each item, in order. If it raises an exception,
            all items of the batch fail with it.
        budget: the highest cost of a batch. An item over the budget runs alone.
        cost: returns the cost of an item, in the budget's unit.
        max_queued: how many items may wait; more are refused, unless the queue was empty.
        on_start: called with the size of each batch before it runs.
        on_end: called with the outcomes of each batch after it has run.
    """

    def __init__(
        self,
        thread: ModelThread,
        run: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        *,
        budget: int,
        cost: Callable[[Item], int] = lambda _: 1,
        max_queued: int = 4096,
        on_start: Callable[[int], None] = lambda _: None,
        on_end: Callable[[Sequence[object]], None] = lambda _: None,
    ) -> None:
        self.budget = budget
        self._on_start = on_start
        self._on_end = on_end
        self._thread = thread
        self._run = run
        self._cost = cost
        self._max_queued = max_queued
        # One queue per caller; callers take turns, so that a caller with many items does not delay one with few.
        self._queues: dict[str, deque[_Waiting[Item, Result]]] = {}
        self._worker: asyncio.Task[None] | None = None
        self._times = PassTimes()
        thread.work.watch(self._queued_s)

    @property
    def queued(self) -> int:
        """The number of items that wait for a batch. Cancelled items count until their turn comes."""
        return sum(map(len, self._queues.values()))

    async def submit(
        self, items: Sequence[Item], caller: str, on_begin: Callable[[int], None] = _ignore
    ) -> list[Result | BaseException]:
        """Run items, in one batch or in several.

        If the task that waits here is cancelled, its queued items are dropped when their turn comes.

        Args:
            items: may be empty.
            caller: whose queue the items join, such as a request id; callers take turns.
            on_begin: called with the batch's size each time a batch begins that contains some of these items.

        Returns:
            One result or exception per item, in order.

        Raises:
            Overloaded: items wait already, and these would make the queue longer than `max_queued`.
        """
        if self.queued + len(items) > self._max_queued and self.queued:
            raise Overloaded("the model's queue is full")
        loop = asyncio.get_running_loop()
        waiting: list[_Waiting[Item, Result]] = [_Waiting(item, loop.create_future(), on_begin) for item in items]
        if not waiting:
            return []
        self._queues.setdefault(caller, deque()).extend(waiting)
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._work())
        try:
            outcomes: list[Result | BaseException] = await asyncio.gather(
                *(each.future for each in waiting), return_exceptions=True
            )
            return outcomes
        except asyncio.CancelledError:
            for each in waiting:
                each.future.cancel()
            raise

    async def _work(self) -> None:
        while self._queues:
            async with self._thread.lock:
                batch = self._take()
                if batch:
                    await self._run_batch(batch)

    async def _run_batch(self, batch: Sequence[_Waiting[Item, Result]]) -> None:
        self._on_start(len(batch))
        for on_begin in dict.fromkeys(each.on_begin for each in batch):
            on_begin(len(batch))
        loop = asyncio.get_running_loop()
        items = [each.item for each in batch]
        outcomes: Sequence[Result | Exception]
        end = self._thread.work.begin(min(1.0, self._full_batches(items)), self._times)
        try:
            outcomes = await loop.run_in_executor(self._thread.executor, self._run, items)
            if len(outcomes) != len(items):
                raise InternalError(f"the model returned {len(outcomes)} results for {len(items)} items")
        except Exception as error:
            outcomes = [error] * len(items)
        finally:
            end()
        self._on_end(outcomes)
        for each, outcome in zip(batch, outcomes, strict=True):
            if each.future.done():
                continue
            if isinstance(outcome, Exception):
                each.future.set_exception(outcome)
            else:
                each.future.set_result(outcome)

    def _full_batches(self, items: Iterable[Item]) -> float:
        """Return the cost of the items, counted in full batches: 2.5 means two and a half batches."""
        return sum(map(self._cost, items)) / self.budget

    def _queued_s(self) -> float:
        """Estimate the model's seconds for the items in this batcher's queues; cancelled items do not count."""
        waiting = (each.item for queue in self._queues.values() for each in queue if not each.future.done())
        return self._full_batches(waiting) * self._times.full_s

    def _take(self) -> list[_Waiting[Item, Result]]:
        """Fill a batch up to the budget: callers take turns, one item per turn. Cancelled items are dropped."""
        batch: list[_Waiting[Item, Result]] = []
        spent = 0
        while self._queues:
            caller, queue = next(iter(self._queues.items()))
            del self._queues[caller]
            while queue and queue[0].future.done():
                queue.popleft()
            if not queue:
                continue
            cost = self._cost(queue[0].item)
            if batch and spent + cost > self.budget:
                # This caller keeps its turn, at the front of the next batch.
                self._queues = {caller: queue, **self._queues}
                break
            batch.append(queue.popleft())
            spent += cost
            if queue:
                self._queues[caller] = queue
        return batch
