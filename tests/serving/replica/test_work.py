"""What a replica counts of its work."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from serve_app.serving.autoscaling import LEAST_S, MOST_S, QUEUED_S
from serve_app.serving.replica.batching import ModelThread, PullBatcher
from serve_app.serving.replica.turns import FairThreads
from serve_app.serving.replica.work import LEAST_PASSES, BusyTime, DeviceWork, PassTimes


class Clock:
    """A clock that stands still unless told."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def learnt(fixed_s: float, slope_s: float, fills: Sequence[float]) -> PassTimes:
    times = PassTimes()
    for fill in fills:
        times.note(fill, fixed_s + slope_s * fill)
    return times


MIXED = [1 / 8, 3 / 8, 1 / 2, 1] * LEAST_PASSES


def test_busy_time_counts_pieces_under_way() -> None:
    clock = Clock()
    work = BusyTime(clock)
    clock.now += 5
    assert work.seconds == 0
    work.begin()
    clock.now += 2
    assert work.seconds == 2
    work.begin()
    clock.now += 3
    work.end()
    clock.now += 1
    work.end()
    clock.now += 9
    assert work.seconds == 2 + 2 * 3 + 1


@pytest.mark.parametrize(
    ("fixed_s", "slope_s"), [(1.0, 0.0), (0.0, 2.0), (0.3, 0.7)], ids=["memory-bound", "compute-bound", "both"]
)
def test_passes_of_different_sizes_tell_how_long_a_full_one_takes(fixed_s: float, slope_s: float) -> None:
    times = learnt(fixed_s, slope_s, MIXED)
    assert times.full_s == pytest.approx(fixed_s + slope_s)
    for fill in (0.1, 0.5, 1.0):
        least, most = times.worth(fill)
        assert least == most == pytest.approx(fill * (fixed_s + slope_s) / (fixed_s + slope_s * fill))


def test_passes_of_one_size_leave_it_open() -> None:
    times = learnt(0.3, 0.7, [1 / 8] * 100)
    assert times.worth(1 / 8) == (1 / 8, 1.0)
    assert times.full_s == pytest.approx(0.3 + 0.7 / 8)


def test_few_passes_leave_it_open() -> None:
    assert learnt(0.3, 0.7, MIXED[: LEAST_PASSES - 1]).worth(0.5) == (0.5, 1.0)
    assert PassTimes().full_s == 0


def test_a_slow_first_pass_is_forgotten() -> None:
    times = PassTimes()
    times.note(1 / 8, 60.0)
    for fill in MIXED * 15:
        times.note(fill, 2.0 * fill)
    assert times.worth(1 / 8)[1] == pytest.approx(1.0, abs=0.05)


def test_times_that_fall_with_the_size_are_taken_for_equal() -> None:
    times = learnt(2.0, -1.0, MIXED)
    assert times.worth(0.5) == (0.5, 0.5)


def test_a_pass_counts_while_it_runs_and_weighs_what_it_is_worth() -> None:
    clock, times = Clock(), learnt(1.0, 0.0, MIXED)
    work = DeviceWork(clock)
    end = work.begin(1 / 4, times)
    clock.now += 2
    assert (work.busy_s, work.least_s, work.most_s) == (2, 0.5, 0.5)
    end()
    clock.now += 7
    assert (work.busy_s, work.least_s, work.most_s) == (2, 0.5, 0.5)
    end = work.begin(1 / 4, PassTimes())
    clock.now += 4
    end()
    assert (work.busy_s, work.least_s, work.most_s) == (6, 1.5, 4.5)


async def test_a_batcher_counts_its_passes_and_what_waits() -> None:
    gate = threading.Event()

    def run(items: Sequence[int]) -> list[int]:
        gate.wait(5)
        return [*items]

    device = ModelThread(ThreadPoolExecutor(1))
    slow: PullBatcher[int, int] = PullBatcher(device, run, budget=2)
    other: PullBatcher[int, int] = PullBatcher(device, lambda items: [*items], budget=100)
    assert device.work.report() == {LEAST_S: 0, MOST_S: 0, QUEUED_S: 0}
    first = asyncio.ensure_future(slow.submit([1, 2], "a"))
    await asyncio.sleep(0.1)
    assert 0.05 < device.work.least_s == pytest.approx(device.work.most_s, abs=0.02)
    gate.set()
    await first
    gate.clear()
    pass_s = device.work.busy_s
    second = asyncio.ensure_future(slow.submit([3], "a"))
    await asyncio.sleep(0.05)
    waiting = [asyncio.ensure_future(slow.submit([4, 5, 6], name)) for name in "bc"]
    await asyncio.sleep(0)
    # Six items are three full passes.
    assert device.work.queued_s == pytest.approx(3 * pass_s, rel=0.01)
    waiting[1].cancel()
    await asyncio.wait([waiting[1]])
    assert device.work.queued_s == pytest.approx(1.5 * pass_s, rel=0.01), "nobody waits for three of them any more"
    gate.set()
    await asyncio.gather(second, waiting[0], other.submit([1], "d"))
    assert device.work.queued_s == 0
    done = device.work.report()
    await asyncio.sleep(0.05)
    assert device.work.report() == done, "a device that does nothing"


async def test_a_pass_that_fails_ends() -> None:
    def run(_: Sequence[int]) -> list[int]:
        raise RuntimeError("boom")

    device = ModelThread(ThreadPoolExecutor(1))
    batcher: PullBatcher[int, int] = PullBatcher(device, run, budget=1)
    assert isinstance((await batcher.submit([1], "a"))[0], RuntimeError)
    done = device.work.busy_s
    await asyncio.sleep(0.03)
    assert device.work.busy_s == done


async def test_threads_count_the_time_in_which_they_work() -> None:
    threads = FairThreads(2, "test")
    await asyncio.gather(*(threads.run(lambda: time.sleep(0.1), name) for name in "ab"))
    done = threads.busy_s
    assert 0.1 <= done < 0.2
    await asyncio.sleep(0.05)
    assert threads.busy_s == done
    leaving = asyncio.ensure_future(threads.run(lambda: time.sleep(0.1), "c"))
    await asyncio.sleep(0.02)
    leaving.cancel()
    await asyncio.sleep(0.15)
    assert threads.busy_s == pytest.approx(done + 0.05, abs=0.03), "a thread works on although its caller left"
