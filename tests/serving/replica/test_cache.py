from __future__ import annotations

import asyncio

import pytest

from serve_app.serving.replica.cache import ByteLru, CachedWork


def lru(max_bytes: int) -> ByteLru[str]:
    return ByteLru(max_bytes, lambda _, value: len(value))


def test_put_drops_the_least_recently_used_first() -> None:
    cache = lru(6)
    cache.put("a", "xxx")
    cache.put("b", "xxx")
    assert cache.get("a") == "xxx"
    cache.put("c", "xxx")
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == ("xxx", None, "xxx")
    assert cache.nbytes == 6


def test_put_keeps_nothing_larger_than_the_bound() -> None:
    cache = lru(3)
    cache.put("a", "xxx")
    cache.put("b", "xxxx")
    assert (cache.get("a"), cache.get("b")) == ("xxx", None)


def test_put_replaces_a_value_and_its_bytes() -> None:
    cache = lru(10)
    cache.put("a", "xxx")
    cache.put("a", "xxxxx")
    assert (cache.nbytes, cache.get("a")) == (5, "xxxxx")


def test_a_bound_of_zero_switches_the_cache_off() -> None:
    cache = lru(0)
    cache.put("a", "x")
    assert (cache.nbytes, cache.get("a")) == (0, None)


class Maker:
    def __init__(self) -> None:
        self.made = 0
        self.cancelled = 0
        self.gate = asyncio.Event()

    async def __call__(self) -> str:
        self.made += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return "value"


async def test_get_makes_a_value_once_for_callers_at_the_same_time() -> None:
    lookups: list[bool] = []
    work, make = CachedWork(lru(100), lookups.append), Maker()
    callers = [asyncio.ensure_future(work.get("k", make)) for _ in range(3)]
    await asyncio.sleep(0)
    make.gate.set()
    assert await asyncio.gather(*callers) == ["value"] * 3
    assert await work.get("k", make) == "value"
    assert make.made == 1
    assert lookups == [False, True, True, True]


async def test_one_callers_cancellation_does_not_touch_the_others() -> None:
    work, make = CachedWork(lru(100)), Maker()
    first = asyncio.ensure_future(work.get("k", make))
    second = asyncio.ensure_future(work.get("k", make))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    make.gate.set()
    assert await second == "value"
    assert make.cancelled == 0


async def test_work_that_nobody_waits_for_is_cancelled_and_can_be_asked_again() -> None:
    work, make = CachedWork(lru(100)), Maker()
    caller = asyncio.ensure_future(work.get("k", make))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    await asyncio.sleep(0)
    assert make.cancelled == 1
    make.gate.set()
    assert await work.get("k", make) == "value"


async def test_errors_reach_every_caller_and_are_not_kept() -> None:
    work: CachedWork[str] = CachedWork(lru(100))
    outcomes = iter([ValueError("first"), "second"])

    async def make() -> str:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return str(outcome)

    with pytest.raises(ValueError, match="first"):
        await work.get("k", make)
    assert await work.get("k", make) == "second"
