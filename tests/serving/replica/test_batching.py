from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from serve_app.errors import InvalidImage, Overloaded
from serve_app.serving.replica.batching import ModelThread, PullBatcher


class Model:
    """Doubles numbers; records its batches; takes its time; fails where told."""

    def __init__(self, seconds: float = 0.0, bad: int | None = None) -> None:
        self.batches: list[list[int]] = []
        self.seconds = seconds
        self.bad = bad
        self.gate: threading.Event | None = None

    def run(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append([*items])
        if self.gate is not None:
            self.gate.wait(5)
        time.sleep(self.seconds)
        return [InvalidImage("bad") if item == self.bad else 2 * item for item in items]


def batcher(model: Model, budget: int = 8, **options: object) -> PullBatcher[int, int]:
    return PullBatcher(ModelThread(ThreadPoolExecutor(1)), model.run, budget=budget, **options)  # type: ignore[arg-type]


async def test_submit_answers_in_order() -> None:
    assert await batcher(Model()).submit([3, 1, 2], "a") == [6, 2, 4]


async def test_submit_of_nothing_runs_nothing() -> None:
    model = Model()
    assert await batcher(model).submit([], "a") == []
    assert model.batches == []


async def test_batches_grow_while_the_model_is_busy() -> None:
    model = Model(seconds=0.05)
    work = batcher(model)
    first = asyncio.ensure_future(work.submit([0], "first"))
    await asyncio.sleep(0.02)
    await asyncio.gather(first, *(work.submit([item], str(item)) for item in range(1, 9)))
    assert [len(batch) for batch in model.batches] == [1, 8]


async def test_one_bad_item_fails_alone() -> None:
    good, bad, other = await batcher(Model(bad=1)).submit([0, 1, 2], "a")
    assert (good, other) == (0, 4)
    assert isinstance(bad, InvalidImage)


async def test_an_exception_of_the_whole_batch_reaches_every_item_and_the_next_batch_works() -> None:
    calls = []

    def run(items: Sequence[int]) -> list[int]:
        calls.append(items)
        if len(calls) == 1:
            raise RuntimeError("boom")
        return [*items]

    work: PullBatcher[int, int] = PullBatcher(ModelThread(ThreadPoolExecutor(1)), run, budget=8)
    assert [type(outcome) for outcome in await work.submit([1, 2], "a")] == [RuntimeError, RuntimeError]
    assert await work.submit([3], "a") == [3]


@pytest.mark.parametrize("answers", [[], [1], [1, 2, 3]])
async def test_a_model_that_gives_too_few_or_too_many_answers_fails_its_callers_at_once(answers: list[int]) -> None:
    noted: list[object] = []
    work: PullBatcher[int, int] = PullBatcher(
        ModelThread(ThreadPoolExecutor(1)), lambda _: answers, budget=8, on_end=noted.extend
    )
    async with asyncio.timeout(1):
        outcomes = await work.submit([1, 2], "a")
        assert [str(outcome) for outcome in outcomes] == [f"the model returned {len(answers)} results for 2 items"] * 2
        assert noted == outcomes, "it counts against the replica's health"
        assert len(await work.submit([3, 4], "a")) == 2, "and the next batch runs"


async def test_a_small_caller_is_not_held_up_by_a_large_one() -> None:
    model = Model()
    model.gate = threading.Event()
    work = batcher(model, budget=4)
    blocker = asyncio.ensure_future(work.submit([100], "blocker"))
    await asyncio.sleep(0.02)
    large = asyncio.ensure_future(work.submit([*range(16)], "large"))
    await asyncio.sleep(0)
    small = asyncio.ensure_future(work.submit([50], "small"))
    await asyncio.sleep(0.02)
    model.gate.set()
    await asyncio.gather(blocker, large, small)
    assert 50 in model.batches[1]


async def test_budget_bounds_a_batch_and_an_item_over_it_runs_alone() -> None:
    model = Model()
    work = batcher(model, budget=5, cost=lambda item: item)
    await work.submit([3, 3, 9, 2, 3], "a")
    assert model.batches == [[3], [3], [9], [2, 3]]


async def test_cancelled_items_never_reach_the_model() -> None:
    model = Model()
    model.gate = threading.Event()
    work = batcher(model)
    blocker = asyncio.ensure_future(work.submit([0], "blocker"))
    await asyncio.sleep(0.02)
    given_up = asyncio.ensure_future(work.submit([7], "gone"))
    await asyncio.sleep(0)
    given_up.cancel()
    model.gate.set()
    await blocker
    await work.submit([1], "next")
    assert model.batches == [[0], [1]]


async def test_a_full_queue_refuses() -> None:
    model = Model()
    model.gate = threading.Event()
    work = batcher(model, max_queued=2)
    blocker = asyncio.ensure_future(work.submit([0], "blocker"))
    await asyncio.sleep(0.02)
    waiting = asyncio.ensure_future(work.submit([1, 2], "a"))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await work.submit([3], "b")
    model.gate.set()
    await asyncio.gather(blocker, waiting)


async def test_two_batchers_of_one_device_never_run_at_the_same_time() -> None:
    running: list[int] = []
    overlaps: list[int] = []

    def run(items: Sequence[int]) -> list[int]:
        overlaps.append(len(running))
        running.append(1)
        time.sleep(0.01)
        running.pop()
        return [*items]

    device = ModelThread(ThreadPoolExecutor(4))
    left: PullBatcher[int, int] = PullBatcher(device, run, budget=1)
    right: PullBatcher[int, int] = PullBatcher(device, run, budget=1)
    await asyncio.gather(left.submit([1, 2, 3], "a"), right.submit([4, 5, 6], "a"))
    assert overlaps == [0] * 6


async def test_a_caller_is_told_when_its_items_begin_and_in_how_large_a_batch() -> None:
    model = Model()
    model.gate = threading.Event()
    work = batcher(model, budget=3)
    told: dict[str, list[int]] = {"first": [], "large": [], "small": []}

    def submit(items: list[int], caller: str) -> asyncio.Future[Any]:
        return asyncio.ensure_future(work.submit(items, caller, told[caller].append))

    first = submit([0], "first")
    await asyncio.sleep(0.02)
    large, small = submit([1, 2, 3], "large"), submit([4], "small")
    await asyncio.sleep(0.02)
    assert told == {"first": [1], "large": [], "small": []}, "what waits is told nothing"
    model.gate.set()
    await asyncio.gather(first, large, small)
    assert model.batches == [[0], [1, 4, 2], [3]]
    assert told == {"first": [1], "large": [3, 1], "small": [3]}
