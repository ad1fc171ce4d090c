"""A replica's embeddings of objects: cut out, batched over requests, kept by image and mask."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from serve_app.config.schema import AppConfig
from serve_app.errors import DeviceOutOfMemory, FetchFailed, GensegError, InternalError
from serve_app.images.crops import object_crop
from serve_app.images.modes import RgbArray
from serve_app.masks.rle import bounds, encode_rle
from serve_app.models.interface import Embedding, IdentityModel
from serve_app.schemas.dicts import IdentityDict, RleDict
from serve_app.serving.embeddings import CROPS, IdentityEmbedder, identity_embedder
from serve_app.serving.replica.batching import ModelThread
from serve_app.serving.replica.metrics import Metrics
from serve_app.serving.replica.turns import FairThreads
from serve_app.verdict.evidence import Seen

SIDE = 8
HEIGHT, WIDTH = 40, 60


class MeanColour:
    """Embeds a crop as its mean colour, of length 1; notes the crops of each pass."""

    side, dimension = SIDE, 3

    def __init__(self, outcome: GensegError | None = None) -> None:
        self.described: IdentityDict = {"model": "fake", "pooling": "cls", "crop": "square", "threshold": 0.5}
        self.passes: list[int] = []
        self.outcome = outcome

    def embed(self, crops: Sequence[NDArray[np.uint8]]) -> list[Embedding | GensegError]:
        self.passes.append(len(crops))
        assert all(crop.shape == (SIDE, SIDE, 3) for crop in crops)
        return [self.outcome or mean_colour(crop) for crop in crops]


def mean_colour(crop: NDArray[np.uint8]) -> Embedding:
    mean = crop.astype(np.float32).mean(axis=(0, 1)) + 1
    embedding: Embedding = (mean / np.linalg.norm(mean)).astype(np.float32)
    return embedding


class Picture:
    """An image that counts how often its pixels are asked for."""

    def __init__(self, seed: int = 0, error: GensegError | None = None) -> None:
        self.image = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        self.asked = 0
        self.error = error

    async def pixels(self) -> RgbArray:
        self.asked += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return self.image


def mask_of(seed: int) -> NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    rng = np.random.default_rng(seed)
    y, x = int(rng.integers(0, 20)), int(rng.integers(0, 40))
    mask[y : y + 12, x : x + 16] = rng.random((12, 16)) < 0.7
    return mask


def seen(*seeds: int) -> list[Seen]:
    return [Seen(f"dog_{seed}", "dog", 0.9, encode_rle(mask_of(seed))) for seed in seeds]


@pytest.fixture
def device() -> Iterator[ModelThread]:
    with ThreadPoolExecutor(1) as executor:
        yield ModelThread(executor)


def embedder(model: IdentityModel, device: ModelThread, cache_bytes: int = 1 << 20) -> IdentityEmbedder:
    return IdentityEmbedder(model, device, FairThreads(2, "test"), Metrics(), cache_bytes)


async def becomes(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def idle(made: IdentityEmbedder) -> bool:
    return not (made.queued or made._pictures.taken or made._threads.busy)


async def test_each_object_gets_the_embedding_of_its_crop(device: ModelThread) -> None:
    picture, objects = Picture(), seen(1, 2, 3)
    found = await embedder(MeanColour(), device).embed("a", picture.pixels, objects, "r")
    assert [(each.object_id, each.mask) for each in found] == [(each.object_id, each.mask) for each in objects]
    for seed, each in zip((1, 2, 3), found, strict=True):
        assert each.embedding is not None
        np.testing.assert_array_equal(each.embedding, mean_colour(object_crop(picture.image, mask_of(seed), SIDE)))
        assert not each.embedding.flags.writeable
    assert picture.asked == 1


async def test_the_same_image_and_mask_are_embedded_once(device: ModelThread) -> None:
    model, picture = MeanColour(), Picture()
    made = embedder(model, device)
    first = await made.embed("a", picture.pixels, seen(1, 2), "r")
    again = await made.embed("a", picture.pixels, seen(2, 1), "other")
    assert (model.passes, picture.asked) == ([2], 1)
    assert again[0].embedding is first[1].embedding
    await made.embed("a", picture.pixels, seen(2, 3), "r")
    await made.embed("b", Picture(4).pixels, seen(1), "r")
    assert (model.passes, picture.asked) == ([2, 1, 1], 2)


async def test_two_labels_with_one_mask_are_one_crop(device: ModelThread) -> None:
    model = MeanColour()
    found = await embedder(model, device).embed("a", Picture().pixels, [*seen(1), *seen(1)], "r")
    assert model.passes == [1]
    assert found[0].embedding is found[1].embedding


async def test_without_a_cache_each_request_embeds(device: ModelThread) -> None:
    model, picture = MeanColour(), Picture()
    made = embedder(model, device, cache_bytes=0)
    for _ in range(2):
        assert (await made.embed("a", picture.pixels, seen(1), "r"))[0].embedding is not None
    assert (model.passes, picture.asked) == ([1, 1], 2)


async def test_requests_for_the_same_objects_at_the_same_time_share_the_work(device: ModelThread) -> None:
    model, picture = MeanColour(), Picture()
    made = embedder(model, device, cache_bytes=0)
    await asyncio.gather(*(made.embed("a", picture.pixels, seen(1, 2), str(i)) for i in range(3)))
    assert (model.passes, picture.asked) == ([2], 1)


async def test_several_requests_share_a_pass(device: ModelThread) -> None:
    model = MeanColour()
    made = embedder(model, device)
    async with device.lock:  # the device is busy with another pass
        running = [
            asyncio.ensure_future(made.embed(str(i), Picture(i).pixels, seen(i, i + 9), str(i))) for i in range(4)
        ]
        await becomes(lambda: made.queued == 8)
    await asyncio.gather(*running)
    assert model.passes == [8]


async def test_a_pass_takes_no_more_than_its_crops(device: ModelThread) -> None:
    model = MeanColour()
    found = await embedder(model, device).embed("a", Picture().pixels, seen(*range(CROPS + 5)), "r")
    assert model.passes == [CROPS, 5]
    assert len(found) == CROPS + 5


async def test_an_image_with_many_objects_fills_no_queue(device: ModelThread) -> None:
    """Else the crops of one request could be more than may wait, and it would be refused each time it comes."""
    made, longest = embedder(MeanColour(), device), 0

    def note(size: int) -> None:
        nonlocal longest
        longest = max(longest, made._batcher.queued + size)

    made._batcher._on_start = note
    picture = Picture()
    found = await made.embed("a", picture.pixels, seen(*range(5 * CROPS + 3)), "r")
    assert (longest, picture.asked, made._pictures.taken) == (CROPS, 1, 0)
    for seed, each in enumerate(found):
        assert each.embedding is not None
        np.testing.assert_array_equal(each.embedding, mean_colour(object_crop(picture.image, mask_of(seed), SIDE)))


async def test_masks_are_read_in_threads(device: ModelThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """32 MB of masks, which an image may have, take half a second to read."""
    loop, readers = threading.get_ident(), set()

    def noted(mask: RleDict) -> tuple[int, int, int, int]:
        readers.add(threading.get_ident())
        return bounds(mask)

    monkeypatch.setattr("serve_app.serving.embeddings.bounds", noted)
    await embedder(MeanColour(), device).embed("a", Picture().pixels, seen(1, 2), "r")
    assert readers
    assert loop not in readers


async def test_an_object_without_a_pixel_resembles_nothing(device: ModelThread) -> None:
    model, picture = MeanColour(), Picture()
    empty = Seen("dog_0", "dog", 0.9, encode_rle(np.zeros((HEIGHT, WIDTH), np.bool_)))
    made = embedder(model, device)
    (alone,) = await made.embed("a", picture.pixels, [empty], "r")
    assert (model.passes, picture.asked) == ([], 0)
    both = await made.embed("a", picture.pixels, [empty, *seen(1)], "r")
    for each in (alone, both[0]):
        assert each.embedding is not None
        np.testing.assert_array_equal(each.embedding, np.zeros(3, np.float32))
    assert model.passes == [1]


async def test_no_objects_need_nothing(device: ModelThread) -> None:
    picture = Picture()
    assert await embedder(MeanColour(), device).embed("a", picture.pixels, [], "r") == []
    assert picture.asked == 0


async def test_an_error_is_raised_and_not_kept(device: ModelThread) -> None:
    model = MeanColour(DeviceOutOfMemory("full"))
    made = embedder(model, device)
    with pytest.raises(DeviceOutOfMemory, match="full"):
        await made.embed("a", Picture().pixels, seen(1), "r")
    with pytest.raises(FetchFailed, match="lost"):
        await made.embed("a", Picture(error=FetchFailed("lost")).pixels, seen(1), "r")
    model.outcome = None
    assert (await made.embed("a", Picture().pixels, seen(1), "r"))[0].embedding is not None


async def test_a_model_that_keeps_failing_fails_the_health_check(device: ModelThread) -> None:
    made = embedder(MeanColour(InternalError("no numbers")), device)
    made.check_health()
    for _ in range(3):
        with suppress(InternalError):
            await made.embed("a", Picture().pixels, seen(1), "r")
    with pytest.raises(RuntimeError, match="no numbers"):
        made.check_health()


@pytest.mark.parametrize("count", [2, CROPS + 2], ids=["one pass", "two passes"])
async def test_a_caller_who_leaves_at_any_tick_leaves_nothing_behind(device: ModelThread, count: int) -> None:
    ticks, finished = 0, False
    while not finished:
        made = embedder(MeanColour(), device)
        running = asyncio.ensure_future(made.embed("a", Picture().pixels, seen(*range(count)), "r"))
        for _ in range(ticks):
            await asyncio.sleep(0 if ticks < 20 else 0.001)
        finished = running.done()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await becomes(partial(idle, made))
        assert not made._flights._flights
        ticks += 1
    assert ticks > 3


async def test_no_model_makes_no_embedder(device: ModelThread) -> None:
    assert identity_embedder(AppConfig(), device, FairThreads(1, "test"), Metrics(), lambda _: None) is None


async def test_the_embedder_says_which_model_compares(device: ModelThread) -> None:
    made = identity_embedder(AppConfig(), device, FairThreads(1, "test"), Metrics(), lambda _: MeanColour())
    assert made is not None
    assert made.described["model"] == "fake"
