"""Threads taken in turn: fairness, and nothing done for a caller who left."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from serve_app.masks.steps import Steps, advance, finish
from serve_app.serving.replica.turns import SLICE_S, FairSlots, FairThreads


class Gate:
    """Holds a thread until it is opened."""

    def __init__(self) -> None:
        self.opened, self.entered = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        assert self.opened.wait(10)


async def entered(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.entered.wait, 10)


def noted(done: list[str], name: str) -> Callable[[], None]:
    return lambda: done.append(name)


def counted(log: list[int], steps: int, pause_s: float = 0.0) -> Steps[str]:
    for index in range(steps):
        time.sleep(pause_s)
        log.append(index)
        yield
    return "done"


def test_advance_stops_at_the_end_of_a_slice_and_goes_on_from_there() -> None:
    log: list[int] = []
    work = counted(log, 3)
    assert advance(work, 0.0) is None
    assert log == [0]
    rest = advance(work, 60.0)
    assert rest is not None
    assert (rest.value, log) == ("done", [0, 1, 2])


def test_finish_runs_to_the_end_and_hands_errors_on() -> None:
    def broken() -> Steps[None]:
        yield
        raise KeyError("x")

    assert finish(counted([], 5)) == "done"
    with pytest.raises(KeyError):
        finish(broken())


async def test_callers_take_turns() -> None:
    threads, gate, done = FairThreads(1, "t"), Gate(), list[str]()
    holding = asyncio.ensure_future(threads.run(gate, "x"))
    await entered(gate)
    work = [asyncio.ensure_future(threads.run(noted(done, f"a{index}"), "a")) for index in range(4)]
    work += [asyncio.ensure_future(threads.run(noted(done, "b0"), "b"))]
    await asyncio.sleep(0)
    assert threads.queued == 5
    gate.opened.set()
    await asyncio.gather(holding, *work)
    assert done == ["a0", "b0", "a1", "a2", "a3"]


async def test_long_work_lets_others_in_between_its_steps() -> None:
    threads, log = FairThreads(1, "t"), list[int]()
    long = asyncio.ensure_future(threads.run_steps(counted(log, 40, SLICE_S / 2), "long"))
    while len(log) < 2:
        await asyncio.sleep(0.001)
    await threads.run(lambda: None, "short")
    assert len(log) < 20
    assert await long == "done"


async def test_all_threads_work_at_once_and_no_more() -> None:
    threads, gates = FairThreads(2, "t"), [Gate(), Gate(), Gate()]
    work = [asyncio.ensure_future(threads.run(gate, f"caller {index}")) for index, gate in enumerate(gates)]
    await entered(gates[0])
    await entered(gates[1])
    assert threads.busy == 2
    assert not gates[2].entered.wait(0.05)
    for gate in gates:
        gate.opened.set()
    await asyncio.gather(*work)


async def test_a_caller_with_much_work_leaves_one_thread_to_others() -> None:
    threads, gates = FairThreads(3, "t"), [Gate(), Gate(), Gate()]
    work = [asyncio.ensure_future(threads.run(gate, "a")) for gate in gates]
    await entered(gates[1])
    assert threads.busy == 2
    assert await threads.run(lambda: "at once", "b") == "at once"
    assert not gates[2].entered.is_set()
    for gate in gates:
        gate.opened.set()
    await asyncio.gather(*work)
    assert (threads.busy, threads.queued) == (0, 0)


async def test_work_whose_caller_left_is_not_begun() -> None:
    threads, gate, done = FairThreads(1, "t"), Gate(), list[str]()
    holding = asyncio.ensure_future(threads.run(gate, "x"))
    await entered(gate)
    left = asyncio.ensure_future(threads.run(noted(done, "left"), "a"))
    stays = asyncio.ensure_future(threads.run(noted(done, "stays"), "a"))
    await asyncio.sleep(0)
    left.cancel()
    gate.opened.set()
    await asyncio.gather(holding, stays)
    assert left.cancelled()
    assert done == ["stays"]


async def test_long_work_ends_with_the_step_in_which_its_caller_leaves() -> None:
    threads, log = FairThreads(1, "t"), list[int]()
    work = asyncio.ensure_future(threads.run_steps(counted(log, 1000, SLICE_S), "a"))
    while not log:
        await asyncio.sleep(0.001)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    await threads.run(lambda: None, "b")  # the thread is free again
    steps = len(log)
    await asyncio.sleep(4 * SLICE_S)
    assert len(log) == steps < 10


async def test_errors_reach_their_caller_and_free_the_thread() -> None:
    threads = FairThreads(1, "t")

    def fails() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await threads.run(fails, "a")
    assert await threads.run(lambda: 3, "a") == 3


async def test_a_caller_holds_so_many_slots_and_others_get_the_rest() -> None:
    slots = FairSlots(3, per_caller=1)
    held: list[str] = []
    leave = asyncio.Event()

    async def hold(caller: str) -> None:
        async with slots.hold(caller):
            held.append(caller)
            await leave.wait()

    work = [asyncio.ensure_future(hold(caller)) for caller in ("a", "a", "a", "b")]
    await asyncio.sleep(0.01)
    assert held == ["a", "b"]
    assert (slots.taken, slots.queued) == (2, 2)
    leave.set()
    await asyncio.gather(*work)
    assert held == ["a", "b", "a", "a"]
    assert (slots.taken, slots.queued) == (0, 0)


@pytest.mark.parametrize("ticks", range(6))
async def test_a_slot_is_not_lost_when_its_taker_is_cancelled_at_any_tick(ticks: int) -> None:
    slots = FairSlots(1, per_caller=1)

    async def hold(caller: str, seconds: float) -> None:
        async with slots.hold(caller):
            await asyncio.sleep(seconds)

    first = asyncio.ensure_future(hold("a", 0))
    second = asyncio.ensure_future(hold("b", 60))
    for _ in range(ticks):
        await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    async with asyncio.timeout(1), slots.hold("c"):
        assert slots.taken == 1
    assert slots.taken == 0
