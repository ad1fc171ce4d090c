"""What a segmenter's replica gathers for the verdict: counts, bare nouns, embeddings; with no second vision pass."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serve_app.config.schema import AppConfig
from serve_app.entities.mentions import Asked
from serve_app.errors import DeadlineExceeded, GensegError, InternalError, InvalidImage, InvalidRequest
from serve_app.images.decoding import decode
from serve_app.images.marks import Marks
from serve_app.models.interface import Detections, Embedding
from serve_app.schemas.base import OverlayStyle
from serve_app.serving.messages import (
    ImageTask,
    JudgedImage,
    ObjectOptions,
    OtherModel,
    OverlayTask,
    ParsedPrompt,
    SegmentedImage,
)
from serve_app.serving.segmenter import SegmenterDeployment
from serve_app.verdict.evidence import Evidence, Picture
from tests.graph.fakes import FakeIdentity
from tests.hostile.corpus import encoded, picture

DATA = encoded(picture(64, 48), "PNG")
GENERATED = JudgedImage(None, 1, True, 16)
CONTEXTUAL = JudgedImage(0, 1, True, 16)
Things = dict[str, list[tuple[int, float]]]


class Scene:
    """Finds of each phrase what it is told: columns of an 8 x 8 grid, with scores. Counts its passes."""

    resolution_hw = (8, 8)

    def __init__(self, things: Things) -> None:
        self.things = things
        self.encoded = 0
        self.looked_for: list[tuple[str, float]] = []

    def prepare(self, _: object) -> int:
        return 0

    def encode(self, images: Sequence[int]) -> list[Any]:
        self.encoded += len(images)
        return [SimpleNamespace(nbytes=10) for _ in images]

    def embed(self, phrases: Sequence[str]) -> list[Any]:
        return [
            InvalidRequest("cannot be read") if phrase == "loveseat" else SimpleNamespace(nbytes=10, text=phrase)
            for phrase in phrases
        ]

    def detect(self, pairs: Sequence[Any]) -> list[Detections | GensegError]:
        self.looked_for += [(pair.phrase.text, pair.threshold) for pair in pairs]
        return [self._detect(pair.phrase.text, pair.threshold) for pair in pairs]

    def _detect(self, phrase: str, threshold: float) -> Detections:
        found = [(column, score) for column, score in self.things.get(phrase, []) if score > threshold]
        logits = np.full((len(found), 8, 8), -9.0, np.float32)
        for index, (column, _) in enumerate(found):
            logits[index, :, column] = 9.0
        boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (len(found), 1))
        return Detections(boxes, np.array([score for _, score in found], np.float32), 0.9, logits)


class Reads:
    """Decodes images and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, data: bytes, limits: Any) -> Any:
        self.count += 1
        return decode(data, limits)


def replica(scene: Scene, identity: Any = None, read: Any = decode, kept: int = 1 << 20) -> SegmenterDeployment:
    return SegmenterDeployment(
        AppConfig(), lambda _: scene, load_identity=lambda _: identity, read=read, kept_pixels_bytes=kept
    )


def task(asked: Sequence[Asked], judged: JudgedImage | None = GENERATED, **options: Any) -> ImageTask:
    entities = tuple(each.entity for each in asked)
    settings = ObjectOptions(verdict=judged is not None, **options)
    return ImageTask("key", DATA, ParsedPrompt(entities, asked=tuple(asked)), settings, "request", 30.0, judged=judged)


async def answer_of(segmenter: SegmenterDeployment, wanted: ImageTask) -> tuple[SegmentedImage, Evidence]:
    outcome = await segmenter.segment(wanted)
    assert isinstance(outcome, SegmentedImage)
    assert outcome.evidence is not None
    return outcome, outcome.evidence


def ids(found: Picture) -> list[str]:
    return [each.object_id for each in found.objects or ()]


@pytest.mark.parametrize("mask_format", ["rle", "polygon", "png", "none"])
async def test_objects_are_counted_by_their_masks_whatever_the_format(mask_format: str) -> None:
    scene = Scene({"dog": [(0, 0.8), (0, 0.9), (3, 0.7)], "brown dog": [(3, 0.6)]})
    asked = [Asked("dog", 2), Asked("brown dog", 1)]
    outcome, evidence = await answer_of(replica(scene), task(asked, mask_format=mask_format))
    assert ids(evidence.picture) == ["dog_1", "dog_2", "brown dog_0"]
    assert [(each.object_ids, each.iou) for each in evidence.picture.overlaps] == [(("dog_2", "brown dog_0"), 1.0)]
    objects = outcome.document["objects"] or []
    assert len(objects) == 4, "the document lists all"
    assert any(key.startswith("mask_") for item in objects for key in item) == (mask_format != "none")
    assert evidence.identity is None


async def test_without_a_verdict_nothing_is_gathered_and_no_mask_is_made_for_it() -> None:
    scene = Scene({"dog": [(0, 0.9)]})
    outcome = await replica(scene).segment(task([Asked("blue dog", 1)], None, mask_format="none"))
    assert isinstance(outcome, SegmentedImage)
    assert outcome.evidence is None
    assert [phrase for phrase, _ in scene.looked_for] == ["blue dog"]


async def test_the_bare_noun_is_looked_for_in_the_same_features_with_the_entitys_threshold() -> None:
    scene = Scene({"blue sofa": [], "sofa": [(2, 0.4), (4, 0.3)], "red lamps": [(1, 0.9)], "lamps": [(1, 0.9)]})
    asked = [Asked("blue sofa", 1), Asked("red lamps", 2), Asked("old dog", 0, True), Asked("green hat", 1)]
    wanted = task(asked, thresholds={"Blue Sofa": 0.35, "green hat": 0.2})
    outcome, evidence = await answer_of(replica(scene), wanted)
    assert scene.encoded == 1
    assert scene.looked_for == [
        ("blue sofa", 0.35), ("red lamps", 0.5), ("old dog", 0.5), ("green hat", 0.2),
        ("sofa", 0.35), ("lamps", 0.5), ("hat", 0.2),
    ]  # fmt: skip
    assert evidence.picture.bare == {
        "blue sofa": {"entity": "sofa", "found": 1},
        "red lamps": {"entity": "lamps", "found": 0},  # it is listed as a red one
        "green hat": {"entity": "hat", "found": 0},
    }
    assert [item["label"] for item in outcome.document["objects"] or []] == ["red lamps"]
    assert [*outcome.document["presence"]] == ["blue sofa", "red lamps", "old dog", "green hat"]


async def test_one_noun_of_two_entities_is_judged_with_the_threshold_of_each() -> None:
    scene = Scene({"sofa": [(2, 0.4), (4, 0.6)]})
    asked = [Asked("blue sofa", 1), Asked("red sofa", 1)]
    _, evidence = await answer_of(replica(scene), task(asked, thresholds={"red sofa": 0.3}))
    assert {entity: bare["found"] for entity, bare in evidence.picture.bare.items()} == {"blue sofa": 1, "red sofa": 2}


async def test_bare_nouns_are_not_looked_for_in_contextual_images_and_unreadable_ones_never() -> None:
    scene = Scene({})
    await answer_of(replica(scene), task([Asked("blue sofa", 1)], CONTEXTUAL))
    assert [phrase for phrase, _ in scene.looked_for] == ["blue sofa"]
    _, evidence = await answer_of(replica(scene), task([Asked("blue loveseat", 1)]))
    assert evidence.picture.bare == {}


async def test_an_entity_that_cannot_be_read_is_not_asked_for() -> None:
    scene = Scene({})
    outcome, evidence = await answer_of(replica(scene), task([Asked("loveseat", 1), Asked("dog", 1)]))
    assert [*outcome.unreadable] == ["loveseat"]
    assert evidence.picture.bare == {}


class Noting(FakeIdentity):
    """Counts the crops."""

    def __init__(self) -> None:
        super().__init__()
        self.crops = 0

    def embed(self, crops: Any) -> Any:
        self.crops += len(crops)
        return super().embed(crops)


@pytest.mark.parametrize(
    ("asked", "judged", "embedded"),
    [
        ([Asked("dog", 1), Asked("sofa", 1)], GENERATED, ["dog_1", "dog_0", "dog_2", "sofa_0"]),
        ([Asked("dog", 1), Asked("sofa", 1)], CONTEXTUAL, ["dog_1", "dog_0", "dog_2", "sofa_0"]),
        ([Asked("dog", 1, sources=(0,)), Asked("sofa", 1)], GENERATED, ["dog_1", "dog_0", "dog_2"]),
        ([Asked("dog", 1, sources=(1,)), Asked("sofa", 1)], CONTEXTUAL, []),
        ([Asked("dog", 1, sources=(0,)), Asked("sofa", 1)], dataclasses.replace(GENERATED, max_objects=2),
         ["dog_1", "dog_0"]),
        ([Asked("dog", 0, True), Asked("sofa", 1)], GENERATED, ["sofa_0"]),
        ([Asked("dog", 1), Asked("sofa", 1)], JudgedImage(None, 0, True, 16), []),
        ([Asked("dog", 1), Asked("sofa", 1)], JudgedImage(0, 1, False, 16), []),
    ],
    ids=["generated", "contextual", "tied", "tied to another image", "the best", "excluded", "no contextual image",
         "no generated image"],
)  # fmt: skip
async def test_only_objects_that_are_compared_are_embedded(
    asked: list[Asked], judged: JudgedImage, embedded: list[str]
) -> None:
    scene = Scene({"dog": [(0, 0.8), (2, 0.9), (4, 0.7), (2, 0.6)], "sofa": [(6, 0.9)]})
    identity, read = Noting(), Reads()
    _, evidence = await answer_of(replica(scene, identity, read), task(asked, judged))
    assert [each.object_id for each in evidence.picture.objects or () if each.embedding is not None] == [
        each for each in ids(evidence.picture) if each in embedded
    ]
    assert identity.crops == len(embedded)
    assert evidence.identity == FakeIdentity().described
    assert ids(evidence.picture) == ["dog_1", "sofa_0", "dog_0", "dog_2"]
    assert read.count == 1, "the pixels are kept"


async def test_pixels_without_room_are_decoded_again_and_only_where_an_embedding_is_missing() -> None:
    scene, identity, read = Scene({"dog": [(0, 0.8)]}), Noting(), Reads()
    segmenter = replica(scene, identity, read, kept=10)
    for _ in range(2):
        await answer_of(segmenter, task([Asked("dog", 1)]))
    assert (read.count, identity.crops, scene.encoded) == (2, 1, 1)


async def test_a_failure_of_the_identity_model_fails_the_image_and_costs_the_replica() -> None:
    class Broken(FakeIdentity):
        def embed(self, *_: object) -> list[Embedding | GensegError]:
            raise ValueError("broken")

    segmenter = replica(Scene({"dog": [(0, 0.8)]}), Broken())
    for _ in range(3):
        segmenter.check_health()
        assert isinstance(await segmenter.segment(task([Asked("dog", 1)])), InternalError)
    with pytest.raises(RuntimeError, match="failed 3 times"):
        segmenter.check_health()


async def test_a_task_for_another_version_gathers_nothing() -> None:
    scene = Scene({"dog": [(0, 0.8)]})
    assert isinstance(
        await replica(scene).segment(dataclasses.replace(task([Asked("dog", 1)]), version="9")), OtherModel
    )
    assert scene.looked_for == []


async def test_overlays_and_the_verdict_share_the_pixels() -> None:
    read = Reads()
    segmenter = replica(Scene({"dog": [(0, 0.8)]}), Noting(), read)
    outcome, _ = await answer_of(segmenter, task([Asked("dog", 1)], overlays=True, mask_format="none"))
    assert str(outcome.document["overlay"]).startswith("data:image/jpeg")
    assert read.count == 1
    assert segmenter._pixel_budget.free == 1 << 20, "the room is given back"


async def test_an_overlay_is_drawn_again_with_what_the_verdict_says() -> None:
    segmenter = replica(Scene({"dog": [(0, 0.8)]}))
    wanted = task([Asked("dog", 1)], overlays=True, overlay_style="outline", mask_format="none")
    outcome, _ = await answer_of(segmenter, wanted)
    assert outcome.drawn is not None
    assert [[*item] for item in outcome.drawn] == [["object_id", "label", "bbox", "score", "mask_rle"]]

    def again(marks: Marks, data: Any = DATA, style: OverlayStyle = "outline") -> OverlayTask:
        return OverlayTask("key", data, outcome.drawn or (), ["dog"], style, marks, "request", 30.0)

    red = Marks(colours={"dog_0": (255, 0, 0)}, lines=("dog: 2 asked, 1 found",))
    drawn = await segmenter.overlay(again(red))
    assert isinstance(drawn, str)
    assert drawn.startswith("data:image/jpeg;base64,")
    others = [await segmenter.overlay(each) for each in (again(Marks()), again(red, style="fill"))]
    assert len({drawn, *others, outcome.document["overlay"]}) == 4
    assert isinstance(await segmenter.overlay(again(red, data=b"no image")), InvalidImage)
    late = await segmenter.overlay(dataclasses.replace(again(red), timeout_s=0.0))
    assert isinstance(late, DeadlineExceeded)


async def test_the_outline_style_leaves_the_colours_of_things_as_they_are() -> None:
    segmenter = replica(Scene({"dog": [(0, 0.8)]}))
    drawn = [
        (await answer_of(segmenter, task([Asked("dog", 1)], overlays=True, overlay_style=style)))[0].document
        for style in ("fill", "outline")
    ]
    assert drawn[0]["overlay"] != drawn[1]["overlay"]


async def test_a_caller_who_leaves_at_any_tick_leaves_nothing_behind() -> None:
    """Cancelled n turns of the event loop after its start, for every n until it is done before."""
    ticks, finished = 0, False
    things: Things = {"dog": [(0, 0.8), (2, 0.7)], "sofa": [(4, 0.9)]}
    while not finished:
        segmenter = replica(Scene(things), FakeIdentity())
        wanted = task([Asked("dog", 1), Asked("blue sofa", 1)], overlays=True)
        running = asyncio.ensure_future(segmenter.segment(wanted))
        for _ in range(ticks):
            await asyncio.sleep(0)
        finished = running.done()
        running.cancel()
        await asyncio.wait_for(asyncio.gather(running, return_exceptions=True), 5)
        assert segmenter._pixel_budget.free == 1 << 20, ticks
        async with asyncio.timeout(1):
            while segmenter._threads.busy or segmenter._canvases.taken or segmenter._identity.queued:  # type: ignore[union-attr]
                await asyncio.sleep(0.001)
        assert {each for each in asyncio.all_tasks() if "segment" in repr(each.get_coro())} == set(), ticks
        # The event loop turns faster than threads work: later cancellations come at growing distances.
        ticks = ticks + 1 if ticks < 60 else ticks * 5 // 4
    assert isinstance(running.result(), SegmentedImage)
