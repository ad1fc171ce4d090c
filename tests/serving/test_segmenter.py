"""A segmenter's deployment without Ray's cluster: deadlines, callers who leave at any moment, bounds of its answers."""

from __future__ import annotations

import asyncio
import dataclasses
import pickle
import time
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from serve_app.config.models import IdentityConfig, ModelsConfig, SegmentationModel
from serve_app.config.schema import AppConfig, CacheConfig, LimitsConfig
from serve_app.errors import DeadlineExceeded, GensegError, InvalidRequest, TooLarge
from serve_app.images.decoding import decode
from serve_app.images.modes import RgbArray
from serve_app.masks.formats import read_mask
from serve_app.masks.rle import decode_rle
from serve_app.models.interface import Detections
from serve_app.schemas.base import MaskFormat
from serve_app.serving.autoscaling import LEAST_S, MOST_S, QUEUED_S, THREADS_S
from serve_app.serving.documents import unpack_masks
from serve_app.serving.messages import ImageOutcome, ImageTask, ObjectOptions, OtherModel, ParsedPrompt, SegmentedImage
from serve_app.serving.segmenter import ENTRY_BYTES, SegmenterDeployment
from serve_app.serving.stamp import version_of
from tests.graph.fakes import FakeFeatures, FakeSegmenter
from tests.hostile.corpus import encoded, picture

DATA = encoded(picture(), "PNG")


class Noisy(FakeSegmenter):
    """Finds `count` masks of noise a phrase; notes how many pairs it is asked at once."""

    def __init__(self, count: int = 1, grid: int = 16) -> None:
        self.count, self.grid = count, grid
        self.pairs: list[int] = []

    def detect(self, pairs: Any) -> list[Detections | GensegError]:
        self.pairs.append(len(pairs))
        rng = np.random.default_rng(0)
        boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (self.count, 1))
        scores = np.full(self.count, 0.9, np.float32)
        return [
            Detections(boxes, scores, 0.9, rng.normal(size=(self.count, self.grid, self.grid)).astype(np.float32))
            for _ in pairs
        ]


def deployment(model: Any, identity: Any = None, **limits: Any) -> SegmenterDeployment:
    return SegmenterDeployment(
        AppConfig(limits=LimitsConfig(**limits)), lambda _: model, load_identity=lambda _: identity
    )


def none(config: AppConfig) -> None:
    """Load no identity model."""


def task(entities: tuple[str, ...] = ("dog",), timeout_s: float = 30.0, **options: Any) -> ImageTask:
    return ImageTask("key", DATA, ParsedPrompt(entities), ObjectOptions(**options), "request", timeout_s)


def document_of(outcome: ImageOutcome) -> Any:
    assert isinstance(outcome, SegmentedImage)
    return unpack_masks(outcome.document)


def idle(segmenter: SegmenterDeployment) -> bool:
    return not (
        segmenter._threads.queued
        or segmenter._threads.busy
        or segmenter._canvases.queued
        or segmenter._canvases.taken
        or segmenter._encoder.queued
        or segmenter._embedder.queued
        or segmenter._detector.queued
        or segmenter._images._flights
        or segmenter._phrases._flights
    )


async def becomes_idle(segmenter: SegmenterDeployment) -> None:
    async with asyncio.timeout(1):
        while not idle(segmenter):
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("mask_format", ["rle", "polygon", "png", "none"])
async def test_the_answer_has_its_masks_in_the_format_asked_for(mask_format: str) -> None:
    outcome = await deployment(Noisy()).segment(task(("dog", "cat"), mask_format=mask_format, overlays=True))
    document = document_of(outcome)
    assert [*document] == ["width", "height", "objects", "presence", "error", "overlay"]
    assert document["overlay"].startswith("data:image/jpeg;base64,")
    key = {"rle": ["mask_rle"], "polygon": ["mask_polygons"], "png": ["mask_png"], "none": []}[mask_format]
    for item in document["objects"]:
        assert [*item] == ["object_id", "label", "bbox", "score", *key]
    assert [item["label"] for item in document["objects"]] == ["dog", "cat"]


async def test_polygons_travel_as_arrays_and_arrive_as_lists() -> None:
    outcome = await deployment(Noisy(3)).segment(task(mask_format="polygon"))
    sent = pickle.dumps(outcome)
    document = document_of(pickle.loads(sent))
    points = [point for item in document["objects"] for ring in item["mask_polygons"] for point in ring["points"]]
    assert len(points) > 1000
    assert len(sent) < 24 * len(points), "as lists a point takes more in memory, and its parts one by one"
    plain = document_of(await deployment(Noisy(3)).segment(task()))
    size_hw = document["height"], document["width"]
    for item, expected in zip(document["objects"], plain["objects"], strict=True):
        assert type(item["mask_polygons"]) is list
        assert read_mask(item, size_hw) == expected["mask_rle"]


@pytest.mark.parametrize(
    ("options", "drawn"),
    [({}, True), ({"mask_format": "none"}, False), ({"mask_format": "none", "overlays": True}, True)],
    ids=["masks", "none", "none but overlays"],
)
async def test_masks_are_asked_for_only_where_somebody_looks_at_them(options: dict[str, Any], drawn: bool) -> None:
    class Asked(Noisy):
        def detect(self, pairs: Any) -> list[Detections | GensegError]:
            asked.extend(pair.masks for pair in pairs)
            found = cast(list[Detections], super().detect(pairs))
            empty = np.zeros((0, self.grid, self.grid), np.float32)
            return [
                each if pair.masks else dataclasses.replace(each, mask_logits=empty)
                for each, pair in zip(found, pairs, strict=True)
            ]

    asked: list[bool] = []
    document = document_of(await deployment(Asked(2)).segment(task(("dog", "cat"), **options)))
    assert asked == [drawn, drawn]
    assert [item["object_id"] for item in document["objects"]] == ["dog_0", "dog_1", "cat_0", "cat_1"]
    assert [item["bbox"] for item in document["objects"]] == [[0, 0, document["width"], document["height"]]] * 4
    assert all(("mask_rle" in item) == (not options) for item in document["objects"])


async def test_an_image_that_waits_for_its_prompt_is_no_work() -> None:
    class Slow(Noisy):
        def detect(self, pairs: Any) -> list[Detections | GensegError]:
            time.sleep(0.1)
            return super().detect(pairs)

    segmenter = deployment(Slow())
    parsed: asyncio.Future[ParsedPrompt] = asyncio.get_running_loop().create_future()
    running = asyncio.ensure_future(segmenter.segment(dataclasses.replace(task(), parsed=cast(Any, parsed))))
    await asyncio.sleep(0.1)
    before = await segmenter.record_autoscaling_stats()
    await asyncio.sleep(0.1)
    assert not running.done()
    assert await segmenter.record_autoscaling_stats() == before
    parsed.set_result(ParsedPrompt(("dog",)))
    document_of(await running)
    after = await segmenter.record_autoscaling_stats()
    assert after[MOST_S] - before[MOST_S] > 0.09
    assert after[LEAST_S] - before[LEAST_S] < 0.05, "one pair is a small part of a pass"
    assert after[THREADS_S] > before[THREADS_S] > 0, "decoding, and then the masks"
    assert after[QUEUED_S] == before[QUEUED_S] == 0


async def test_a_caller_who_leaves_at_any_tick_leaves_nothing_behind() -> None:
    """Cancelled n turns of the event loop after its start, for every n until it is done before."""
    ticks, finished = 0, False
    while not finished:
        segmenter = deployment(Noisy(3))
        running = asyncio.ensure_future(segmenter.segment(task(mask_format="polygon", overlays=True)))
        for _ in range(ticks):
            await asyncio.sleep(0)
        finished = running.done()
        running.cancel()
        outcome, *_ = await asyncio.wait_for(asyncio.gather(running, return_exceptions=True), 5)
        assert isinstance(outcome, asyncio.CancelledError) or running.done(), ticks
        assert running.cancelled() or finished, (ticks, outcome)
        await becomes_idle(segmenter)
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [each for each in rest if "segment" in repr(each.get_coro())], ticks
        # The event loop turns faster than threads work: later cancellations come at growing distances.
        ticks = ticks + 1 if ticks < 60 else ticks * 5 // 4
    assert isinstance(running.result(), SegmentedImage)


async def test_a_cancelled_request_is_over_even_where_its_work_ends_in_the_same_tick() -> None:
    class Ends(Noisy):
        def detect(self, pairs: Any) -> list[Detections | GensegError]:
            found = super().detect(pairs)
            loop.call_soon_threadsafe(running.cancel)
            return found

    loop = asyncio.get_running_loop()
    running = asyncio.ensure_future(deployment(Ends()).segment(task(timeout_s=20)))
    await asyncio.wait({running}, timeout=5)
    assert running.done()
    assert running.cancelled()


@pytest.mark.parametrize(("budget", "decoded"), [(1 << 20, 1), (100, 2)], ids=["kept", "no room"])
async def test_an_image_is_decoded_once_for_its_objects_and_its_overlay(budget: int, decoded: int) -> None:
    read: list[bytes] = []

    def counted(data: bytes, limits: LimitsConfig) -> RgbArray:
        read.append(data)
        return decode(data, limits)

    segmenter = SegmenterDeployment(
        AppConfig(), lambda _: Noisy(), load_identity=none, read=counted, kept_pixels_bytes=budget
    )
    document = document_of(await segmenter.segment(task(overlays=True)))
    assert read == [DATA] * decoded
    await segmenter.segment(dataclasses.replace(task(overlays=True), key="another"))
    assert read == [DATA] * 2 * decoded, "the room is given back"
    same = document_of(await deployment(Noisy()).segment(task(overlays=True)))
    assert document["overlay"] == same["overlay"]


async def test_features_that_take_no_memory_do_not_fill_the_cache_without_a_bound() -> None:
    class Weightless(Noisy):
        def encode(self, images: Any) -> list[Any]:
            return [SimpleNamespace(nbytes=0) for _ in images]

    config = AppConfig(cache=CacheConfig(vision_bytes=10 * ENTRY_BYTES))
    segmenter = SegmenterDeployment(config, lambda _: Weightless(), load_identity=none)
    for number in range(30):
        assert isinstance(await segmenter.segment(dataclasses.replace(task(), key=f"image {number}")), SegmentedImage)
    assert segmenter._images.cache.nbytes == 10 * ENTRY_BYTES


async def test_the_deadline_ends_the_work_between_two_masks() -> None:
    segmenter = deployment(Noisy(2000))
    large = dataclasses.replace(task(timeout_s=1.0), data=encoded(picture(900, 900), "PNG"))
    assert isinstance(await segmenter.segment(large), DeadlineExceeded)
    await becomes_idle(segmenter)  # 2,000 masks take many seconds


@pytest.mark.parametrize("mask_format", ["rle", "polygon", "png"])
async def test_masks_over_their_bytes_are_too_large_in_every_format(mask_format: str) -> None:
    options: dict[str, Any] = {"mask_format": mask_format}
    document_of(await deployment(Noisy(40)).segment(task(**options)))
    outcome = await deployment(Noisy(40), max_mask_bytes=2000).segment(task(**options))
    assert isinstance(outcome, TooLarge)
    assert outcome.message == (
        "the masks of this image take over 2000 bytes of text; raise the threshold, "
        'name fewer entities, or ask for mask_format "none" without overlays and verdict'
    )
    free = document_of(await deployment(Noisy(40), max_mask_bytes=2000).segment(task(mask_format="none")))
    assert len(free["objects"]) == 40


@pytest.mark.parametrize(
    ("threshold", "grid", "pairs"),
    [(0.5, 1024, [6]), (0.0, 1024, [1] * 6), (0.0, 16, [1, 5])],
    ids=["few are kept", "all are kept", "all are kept, but small"],
)
async def test_mask_logits_of_every_query_are_held_for_few_entities_at_a_time(
    threshold: float, grid: int, pairs: list[int]
) -> None:
    entities = tuple(f"thing {index}" for index in range(6))
    model = Noisy(9, grid)
    document = document_of(await deployment(model).segment(task(entities, threshold=threshold, mask_format="none")))
    assert model.pairs == pairs
    assert [*document["presence"]] == [*entities]
    assert [item["label"] for item in document["objects"]] == [entity for entity in entities for _ in range(9)]


class Reads(Noisy):
    """Cannot read CJK; tells so when it embeds."""

    check_phrases: Any = None

    def embed(self, phrases: Any) -> list[Any]:
        return [InvalidRequest("not English") if "狗" in phrase else FakeFeatures(0) for phrase in phrases]


class Checks(Reads):
    """Tells so at once, too."""

    def check_phrases(self, phrases: Any) -> list[InvalidRequest | None]:
        return [InvalidRequest("not English") if "狗" in phrase else None for phrase in phrases]

    def embed(self, phrases: Any) -> list[Any]:
        self.pairs.append(-len(phrases))
        return super().embed(phrases)


async def test_an_entity_that_cannot_be_read_is_named_beside_the_objects_of_the_others() -> None:
    outcome = await deployment(Reads()).segment(task(("狗", "dog", "狗狗"), overlays=True))
    assert isinstance(outcome, SegmentedImage)
    assert outcome.unreadable == {"狗": "not English", "狗狗": "not English"}
    assert [*outcome.document["presence"]] == ["dog"]
    assert [each["object_id"] for each in outcome.document["objects"] or ()] == ["dog_0"]
    none = await deployment(Reads()).segment(task(("狗",)))
    assert isinstance(none, SegmentedImage)
    assert (none.document["objects"], none.document["presence"]) == ([], {})


@pytest.mark.parametrize("model", [Reads, Checks])
async def test_phrases_are_checked_without_an_image(model: type[Noisy]) -> None:
    reader = model()
    assert await deployment(reader).check_phrases(["dog", "狗"], "request", 10) == {"狗": "not English"}
    assert reader.pairs == [], "a model that can tell at once does no text pass"


async def test_an_answer_names_its_model_and_a_task_for_another_version_costs_no_work() -> None:
    model = Noisy()
    segmenter = deployment(model)
    first = await segmenter.segment(task())
    assert isinstance(first, SegmentedImage)
    assert (first.stamp.name, await segmenter.model_name()) == ("embedded", "embedded")
    assert first.stamp.since == pytest.approx(time.time(), abs=60)
    same = await segmenter.segment(dataclasses.replace(task(), version=first.stamp.version))
    assert isinstance(same, SegmentedImage)
    done = len(model.pairs)
    other = await segmenter.segment(dataclasses.replace(task(), version="another"))
    assert (other, len(model.pairs)) == (OtherModel(first.stamp), done)


def test_versions_differ_where_answers_may_and_not_where_only_the_service_differs() -> None:
    plain = AppConfig()
    models = [
        ModelsConfig(segmentation=SegmentationModel(**fields))
        for fields in ({"model_name": "facebook/sam3"}, {"dtype": "bfloat16"}, {"tf32": True})
    ]
    models.append(ModelsConfig(identity=IdentityConfig(model_name="none")))
    versions = [version_of(config) for config in (plain, *(AppConfig(models=each) for each in models))]
    assert len({*versions}) == 5
    assert version_of(AppConfig(cache=CacheConfig(vision_bytes=1), limits=LimitsConfig(max_images=2))) == versions[0]


@pytest.mark.parametrize("mask_format", ["rle", "polygon", "png"])
async def test_an_object_without_a_pixel_above_the_mask_threshold_keeps_its_box_and_an_empty_mask(
    mask_format: MaskFormat,
) -> None:
    outcome = await deployment(Noisy()).segment(task(mask_threshold=1.0, mask_format=mask_format))
    document = document_of(outcome)
    (found,) = document["objects"]
    assert (found["object_id"], found["bbox"]) == ("dog_0", [0, 0, document["width"], document["height"]])
    size_hw = document["height"], document["width"]
    rle = read_mask(found, size_hw)
    assert rle is not None
    mask = decode_rle(rle)
    assert mask.shape == size_hw
    assert not mask.any()
    if mask_format == "polygon":
        assert found["mask_polygons"] == []
