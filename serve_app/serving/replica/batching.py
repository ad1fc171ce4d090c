"""Batch the items of many callers: form a batch when the device becomes free, not earlier.

A timer-based batcher forms a batch as soon as its time window closes, even while the device is busy. So it sends many
small batches under load. This one takes the items that wait when the device becomes idle: a single item starts at once,
and under load batches grow by themselves.

Knows neither models nor Ray.
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


class Device:
    """A model thread that several batchers share, first come, first served.

    Args:
        executor: runs one job at a time, because the models are not thread-safe.

    Attributes:
        turn: the batcher whose pass runs holds this lock.
        work: measures the finished and the queued work of all batchers.
    """

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.turn = asyncio.Lock()
        self.work = DeviceWork()


def _nobody(batch: int) -> None:
    """Do nothing, for callers that need not know when their items begin."""


@dataclass(frozen=True, eq=False, slots=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    future: asyncio.Future[Result]
    begins: Callable[[int], None]


class PullBatcher(Generic[Item, Result]):
    """Groups items of many callers into batches of limited cost.

    Args:
        device: the device that runs the batches.
        run: processes a batch: returns one result or one exception for each item, in order. If it raises an exception,
            all items of the batch fail with it.
        budget: the highest cost of a batch. An item over the budget runs alone.
        cost: returns the cost of an item, in the budget's unit.
        max_queued: how many items may wait; more are refused, unless the queue was empty.
        observe: called with the size of every batch.
        note: called with the outcomes of every batch.
    """

    def __init__(
        self,
        device: Device,
        run: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        *,
        budget: int,
        cost: Callable[[Item], int] = lambda _: 1,
        max_queued: int = 4096,
        observe: Callable[[int], None] = lambda _: None,
        note: Callable[[Sequence[object]], None] = lambda _: None,
    ) -> None:
        self.budget = budget
        self._note = note
        self._device = device
        self._run = run
        self._cost = cost
        self._max_queued = max_queued
        self._observe = observe
        # One queue per caller, served in turn, so that a caller with many items does not delay one with few.
        self._queues: dict[str, deque[_Waiting[Item, Result]]] = {}
        self._worker: asyncio.Task[None] | None = None
        self._times = PassTimes()
        device.work.watch(self._queued_s)

    @property
    def queued(self) -> int:
        """The number of items that wait for a batch."""
        return sum(map(len, self._queues.values()))

    async def submit(
        self, items: Sequence[Item], caller: str, begins: Callable[[int], None] = _nobody
    ) -> list[Result | BaseException]:
        """Run items, in one batch or in several.

        If the task that waits here is cancelled, its items that are still in the queue are dropped.

        Args:
            items: may be empty.
            caller: whose queue the items join, such as a request id; callers take turns.
            begins: called when a batch with some of the items begins, with the batch's size.

        Returns:
            One result or exception per item, in order.

        Raises:
            Overloaded: too many items wait already.
        """
        if self.queued + len(items) > self._max_queued and self.queued:
            raise Overloaded("the model's queue is full")
        loop = asyncio.get_running_loop()
        waiting: list[_Waiting[Item, Result]] = [_Waiting(item, loop.create_future(), begins) for item in items]
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
            async with self._device.turn:
                batch = self._take()
                if batch:
                    await self._run_batch(batch)

    async def _run_batch(self, batch: Sequence[_Waiting[Item, Result]]) -> None:
        self._observe(len(batch))
        for begins in dict.fromkeys(each.begins for each in batch):
            begins(len(batch))
        loop = asyncio.get_running_loop()
        items = [each.item for each in batch]
        outcomes: Sequence[Result | Exception]
        end = self._device.work.begin(min(1.0, self._passes(items)), self._times)
        try:
            outcomes = await loop.run_in_executor(self._device.executor, self._run, items)
            if len(outcomes) != len(items):
                raise InternalError(f"the model gave {len(outcomes)} answers to {len(items)} questions")
        except Exception as error:
            outcomes = [error] * len(items)
        finally:
            end()
        self._note(outcomes)
        for each, outcome in zip(batch, outcomes, strict=True):
            if each.future.done():
                continue
            if isinstance(outcome, Exception):
                each.future.set_exception(outcome)
            else:
                each.future.set_result(outcome)

    def _passes(self, items: Iterable[Item]) -> float:
        """Return how many full batches the items are, as a fraction."""
        return sum(map(self._cost, items)) / self.budget

    def _queued_s(self) -> float:
        """Estimate the seconds that the device needs for the queued items; cancelled ones do not count."""
        waiting = (each.item for queue in self._queues.values() for each in queue if not each.future.done())
        return self._passes(waiting) * self._times.full_s

    def _take(self) -> list[_Waiting[Item, Result]]:
        """Take one item of each caller in turn while the budget lasts; drop cancelled items."""
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
