"""The batcher: ours, which takes work when the model is idle, against `@serve.batch`, on the same arrivals.

The model answers a batch of any size in 0.4 s, one batch at a time; requests come every 50 ms; batches hold 8 at most.
Both run inside one replica of a real Serve, since `@serve.batch` runs nowhere else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ray import serve

from serve_app.serving.replica.batching import ModelThread, PullBatcher
from tests.benchmarks.rows import Row, compared
from tests.benchmarks.serving import real_serve

ITEMS, INTERVAL_S, WORK_S, MAX_BATCH, WAIT_S = 16, 0.05, 0.4, 8, 0.01


@dataclass(frozen=True)
class Arrivals:
    """How a run of arrivals went: seconds until the last answer, the longest wait of one, the batches' sizes."""

    seconds: float
    longest_wait_s: float
    batches: list[int]


class SlowModel:
    """Takes the same time for one item as for a full batch, as a GPU nearly does; remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def run(self, items: Sequence[int]) -> list[int]:
        """Answer every item with itself."""
        self.batches.append(len(items))
        time.sleep(WORK_S)
        return [*items]


class Batchers:
    """Both batchers, each with a model in a thread of its own, as the event loop must stay free."""

    def __init__(self) -> None:
        self._model = SlowModel()
        self._thread = ThreadPoolExecutor(1)

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=WAIT_S)
    async def batched(self, items: list[int]) -> list[int]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._model.run, items)

    async def theirs(self) -> Arrivals:
        """Run the arrivals through `@serve.batch`."""
        submit: Callable[[int], Awaitable[int]] = self.batched
        return await arrivals(submit, self._model)

    async def ours(self) -> Arrivals:
        """Run the arrivals through our batcher."""
        model = SlowModel()
        batcher: PullBatcher[int, int] = PullBatcher(ModelThread(ThreadPoolExecutor(1)), model.run, budget=MAX_BATCH)

        async def submit(item: int) -> int:
            (answer,) = await batcher.submit([item], str(item))
            assert not isinstance(answer, BaseException)
            return answer

        return await arrivals(submit, model)


async def arrivals(submit: Callable[[int], Awaitable[int]], model: SlowModel) -> Arrivals:
    """Submit the items, one every so often, and wait for all answers."""
    waits = []

    async def one(item: int) -> None:
        await asyncio.sleep(item * INTERVAL_S)
        submitted = time.perf_counter()
        answer = await submit(item)
        assert answer == item
        waits.append(time.perf_counter() - submitted)

    started = time.perf_counter()
    await asyncio.gather(*(one(item) for item in range(ITEMS)))
    return Arrivals(time.perf_counter() - started, max(waits), model.batches)


def run(quick: bool = False) -> list[Row]:  # noqa: ARG001  # every benchmark has it
    """Measure both.

    Args:
        quick: changes nothing, as nearly all of the time is the start of Ray.

    Returns:
        The time until the last answer, and the longest wait.
    """
    deployment: Any = serve.deployment(Batchers)
    with real_serve():
        handle = serve.run(deployment.options(max_ongoing_requests=ITEMS).bind(), name="batchers", route_prefix=None)
        theirs: Arrivals = handle.theirs.remote().result()
        ours: Arrivals = handle.ours.remote().result()
    what = f"batcher, {ITEMS} arrivals every {INTERVAL_S * 1000:g} ms, against @serve.batch"
    batches = {"reference_batches": theirs.batches, "ours_batches": ours.batches}
    return [
        compared(f"{what}: until the last answer", theirs.seconds, ours.seconds, more=batches),
        compared(f"{what}: the longest wait", theirs.longest_wait_s, ours.longest_wait_s),
    ]
