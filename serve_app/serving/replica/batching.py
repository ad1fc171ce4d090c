"""The pull-when-idle batcher: work is cut into batches when the device is free, not before.

A timer-based batcher cuts a batch as soon as its window closes, even while the device is busy, and so sends many small
batches under load. This one takes whatever waits at the moment the device becomes idle: alone, an item starts at
once; under load, batches grow by themselves.

Knows asyncio only: no models, no Ray.
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
    """One model thread that several batchers take turns on: first come, first served.

    Args:
        executor: runs one job at a time; the models are not thread-safe.

    Attributes:
        turn: held by the batcher whose pass runs.
        work: what all of them did and have waiting.
    """

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.turn = asyncio.Lock()
        self.work = DeviceWork()


def _nobody(batch: int) -> None:
    """Stands for a caller that need not know when its items begin."""


@dataclass(frozen=True, eq=False, slots=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    future: asyncio.Future[Result]
    begins: Callable[[int], None]


class PullBatcher(Generic[Item, Result]):
    """Groups items of many callers into batches of a bounded cost.

    Args:
        device: whose turn the batches take.
        run: the device work: one result, or one exception, per item in order. An exception that it raises fails the
            whole batch.
        budget: the most that one batch may cost. An item over the budget runs alone.
        cost: what an item costs, in the budget's unit.
        max_queued: items that may wait; one more is refused.
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
        # One queue per caller, served in turn: a caller with many items does not hold up one with few.
        self._queues: dict[str, deque[_Waiting[Item, Result]]] = {}
        self._worker: asyncio.Task[None] | None = None
        self._times = PassTimes()
        device.work.watch(self._queued_s)

    @property
    def queued(self) -> int:
        """Items that wait for a batch."""
        return sum(map(len, self._queues.values()))

    async def submit(
        self, items: Sequence[Item], caller: str, begins: Callable[[int], None] = _nobody
    ) -> list[Result | BaseException]:
        """Run items, in whatever batches they fall into.

        Args:
            items: may be empty.
            caller: whose turn they count to, such as a request id.
            begins: called with the size of each batch that takes some of the items, when it begins.

        Returns:
            One result or exception per item, in order. If the caller is cancelled, items that have not reached the
            device are dropped.

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
        """Count how many full passes items take, in parts of one."""
        return sum(map(self._cost, items)) / self.budget

    def _queued_s(self) -> float:
        """Count the seconds that the device needs for what somebody waits for."""
        waiting = (each.item for queue in self._queues.values() for each in queue if not each.future.done())
        return self._passes(waiting) * self._times.full_s

    def _take(self) -> list[_Waiting[Item, Result]]:
        """Take one item of each caller in turn while the budget lasts; drop what nobody waits for."""
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
                # Its turn is not used up: it stays at the front for the next batch.
                self._queues = {caller: queue, **self._queues}
                break
            batch.append(queue.popleft())
            spent += cost
            if queue:
                self._queues[caller] = queue
        return batch
