"""Values that gauges show."""

from __future__ import annotations

import asyncio

from serve_app.serving.replica.metrics import Watch


class Shown:
    """A gauge that remembers what it shows."""

    def __init__(self) -> None:
        self.values: list[tuple[float, dict[str, str]]] = []

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.values.append((value, tags))


async def test_a_watched_value_is_read_while_the_loop_runs_and_no_event_is_needed() -> None:
    queue: list[int] = [1]
    gauge, watch = Shown(), Watch(every_s=0.001)
    watch.add(gauge, {"queue": "pairs"}, lambda: len(queue))
    await asyncio.sleep(0)
    assert gauge.values == [(1, {"queue": "pairs"})]
    queue.clear()
    async with asyncio.timeout(5):
        while gauge.values[-1] != (0, {"queue": "pairs"}):
            await asyncio.sleep(0.001)


def test_without_a_loop_nothing_is_read() -> None:
    gauge, watch = Shown(), Watch()
    watch.add(gauge, {}, lambda: 1)
    assert gauge.values == []
