"""The byte budget: only a piece that is larger than the whole budget exceeds it, and every caller gets its turn."""

from __future__ import annotations

import asyncio

import pytest

from serve_app.batch.budget import ByteBudget


async def most_at_work(sizes: list[int], total: int, guess: int = 1) -> tuple[int, int]:
    """Run pieces of these sizes; returns the most bytes and the most pieces inside at the same time, after a first."""
    budget = ByteBudget(total, guess)
    inside: list[int] = []
    most_bytes = most_pieces = 0

    async def work(size: int) -> None:
        nonlocal most_bytes, most_pieces
        async with budget.piece() as known:
            await asyncio.sleep(0)
            known(size)
            inside.append(size)
            most_bytes, most_pieces = max(most_bytes, sum(inside)), max(most_pieces, len(inside))
            await asyncio.sleep(0.001)
            inside.remove(size)

    await work(max(sizes))
    most_bytes = most_pieces = 0
    await asyncio.wait_for(asyncio.gather(*map(work, sizes)), 10)
    return most_bytes, most_pieces


@pytest.mark.parametrize(
    ("sizes", "total", "expected_bytes", "expected_pieces"),
    [
        ([10] * 20, 50, 50, 5),
        ([10] * 20, 5, 10, 1),
        ([10] * 3, 1000, 30, 3),
        ([0] * 20, 50, 0, 20),
    ],
    ids=["fits five", "each too large", "all fit", "empty"],
)
async def test_piece_keeps_to_the_budget(
    sizes: list[int], total: int, expected_bytes: int, expected_pieces: int
) -> None:
    assert await most_at_work(sizes, total) == (expected_bytes, expected_pieces)


async def test_piece_gives_its_bytes_back_after_an_error() -> None:
    budget = ByteBudget(10, 10)
    for _ in range(3):
        with pytest.raises(ValueError, match="bad"):
            async with budget.piece():
                raise ValueError("bad")
    async with asyncio.timeout(1), budget.piece() as known:
        known(10)


async def test_piece_lets_a_waiting_one_be_cancelled() -> None:
    budget = ByteBudget(10, 10)
    async with budget.piece():
        waiting = asyncio.ensure_future(budget.piece().__aenter__())
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with asyncio.timeout(1), budget.piece():
        pass
