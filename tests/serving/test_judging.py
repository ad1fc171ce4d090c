"""The verdict in the pipeline, with fakes for the models."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from serve_app.config.schema import AppConfig, LimitsConfig
from serve_app.entities.mentions import Asked
from serve_app.errors import GensegError, InternalError
from serve_app.images.marks import Marks, marks_of
from serve_app.schemas.dicts import IdentityDict, images_of
from serve_app.schemas.documents import ResultDocument
from serve_app.schemas.requests import SegmentRequest
from serve_app.serving.messages import (
    ImageTask,
    JudgedImage,
    ModelStamp,
    OtherModel,
    OverlayTask,
    ParsedPrompt,
    SegmentedImage,
)
from serve_app.verdict.evidence import Counted, Evidence, Overlap, Picture
from tests.serving.fakes import Again, FakeParser, FakeSegmenter, images, job, pipeline, run

IDENTITY: IdentityDict = {"model": "m", "pooling": "cls", "crop": "c", "threshold": 0.6}
ASKED = (Asked("dogs", 2, True, "Two dogs", (0,)), Asked("blue sofa", 1, False, "a blue sofa"))
READ = ParsedPrompt(("dogs", "blue sofa"), (), "reader", ASKED)


def counted(label: str, index: int, angle: float | None = None) -> Counted:
    vector = None if angle is None else np.array([np.cos(angle), np.sin(angle)], np.float32)
    return Counted(f"{label}_{index}", label, 0.9, vector)


TWO_DOGS = Picture((counted("dogs", 0, 0.0), counted("dogs", 1, 1.2)))
ONE_DOG = Picture((counted("dogs", 0, 0.3), counted("blue sofa", 0)), (Overlap(("dogs_0", "blue sofa_0"), 0.93456),))


class Witness(FakeSegmenter):
    """Knows what an image shows by its width."""

    def __init__(
        self, pictures: dict[int, Picture], identity: IdentityDict | None = IDENTITY, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.pictures, self.identity = pictures, identity

    def evidence(self, width: int, task: ImageTask) -> Evidence | None:
        return None if task.judged is None else Evidence(self.pictures[width], self.identity)


async def test_the_verdict_stands_in_the_document() -> None:
    parser, segmenter = FakeParser(READ), Witness({10: TWO_DOGS, 11: ONE_DOG})
    document = await run(job(10, 11, verdict=True), pipeline(parser, segmenter))
    verdict = document["verdict"]
    assert ResultDocument.model_validate(document).verdict is not None
    assert [(row["entity"], row["asked"], row["found"], row["status"]) for row in verdict["entities"]] == [
        ("dogs", 2, 1, "too_few"), ("blue sofa", 1, 1, "ok"),
    ]  # fmt: skip
    assert [(row["object_id"], row["match"], row["similarity"], row["status"]) for row in verdict["references"]] == [
        ("dogs_0", "dogs_0", 0.9553, "arrived"), ("dogs_1", None, None, "merged"),
    ]  # fmt: skip
    assert verdict["overlaps"] == [{"image": "generated_image", "objects": ["dogs_0", "blue sofa_0"], "iou": 0.9346}]
    assert (verdict["arrived"], verdict["identity"]) == (False, IDENTITY)
    assert parser.contextual_images == 1


async def test_without_the_option_nothing_is_read_gathered_or_judged() -> None:
    parser, segmenter = FakeParser(READ), FakeSegmenter()
    document = await run(job(10, 11), pipeline(parser, segmenter))
    assert document["verdict"] is None
    assert parser.contextual_images is None
    assert [task.judged for task in segmenter.tasks] == [None, None]


async def test_each_image_is_told_which_one_it_is() -> None:
    segmenter = FakeSegmenter()
    config = AppConfig(limits=LimitsConfig(max_identity_objects=3))
    await run(job(10, 11, 12, verdict=True), pipeline(FakeParser(READ), segmenter), config)
    assert [task.judged for task in segmenter.tasks] == [
        JudgedImage(0, 2, True, 3), JudgedImage(1, 2, True, 3), JudgedImage(None, 2, True, 3),
    ]  # fmt: skip


async def test_in_a_stream_the_verdict_is_part_of_the_result() -> None:
    line = pipeline(FakeParser(READ), Witness({10: TWO_DOGS, 11: ONE_DOG}))
    events = [event async for event in line.stream(job(10, 11, verdict=True), AppConfig(), "r")]
    assert [event["event"] for event in events] == ["entities", "image", "image", "result"]
    assert events[-1]["event"] == "result"
    verdict = events[-1]["result"]["verdict"]
    assert verdict is not None
    assert verdict["arrived"] is False
    assert all("verdict" not in event for event in events)


async def test_entities_of_the_caller_keep_their_names_and_none_is_added() -> None:
    parser, segmenter = FakeParser(), Witness({10: Picture(()), 11: Picture((counted("Car", 0),))}, None)
    prompt = "Change the car to red, with three hats from image 1 and no clouds"
    request = job(10, 11, prompt=prompt, entities=["tree", "Car", "hats"], verdict=True)
    document = await run(request, pipeline(parser, segmenter))
    assert parser.started == 0
    assert document["entities"] == ["tree", "Car", "hats"]
    assert segmenter.tasks[0].parsed.entities == ("tree", "Car", "hats")
    assert [(row["entity"], row["asked"], row["exact"], row["sources"]) for row in document["verdict"]["entities"]] == [
        ("tree", None, False, []), ("Car", 1, False, []), ("hats", 3, True, [0]),
    ]  # fmt: skip
    assert document["verdict"]["identity"] is None


async def test_without_a_prompt_one_of_each_entity_is_enough() -> None:
    segmenter = Witness({10: Picture((counted("dog", 0), counted("dog", 1)))}, None)
    request = SegmentRequest(generated_image=images(10)[0], entities=["dog", "sofa"], verdict=True)
    verdict = (await run(request, pipeline(segmenter=segmenter)))["verdict"]
    assert [(row["entity"], row["asked"], row["asked_as"], row["status"]) for row in verdict["entities"]] == [
        ("dog", None, None, "ok"), ("sofa", None, None, "missing"),
    ]  # fmt: skip


async def test_a_failed_image_is_unknown_and_never_missing() -> None:
    segmenter = Witness({10: TWO_DOGS, 11: ONE_DOG}, outcomes={11: InternalError("died")})
    verdict = (await run(job(10, 11, verdict=True), pipeline(FakeParser(READ), segmenter)))["verdict"]
    assert [(row["status"], row["found"]) for row in verdict["entities"]] == [("unknown", None)] * 2
    assert [row["status"] for row in verdict["references"]] == ["unknown"]
    assert verdict["arrived"] is None
    segmenter = Witness({10: TWO_DOGS, 11: ONE_DOG}, outcomes={10: InternalError("died")})
    verdict = (await run(job(10, 11, verdict=True), pipeline(FakeParser(READ), segmenter)))["verdict"]
    assert [row["status"] for row in verdict["references"]] == ["unknown"]
    assert "contextual_images[0]: segmentation failed, so 'dogs' cannot be compared" in verdict["reasons"]


async def test_without_a_generated_image_nothing_is_known() -> None:
    request = SegmentRequest(prompt="Two dogs", contextual_images=images(10), verdict=True)
    segmenter = Witness({10: TWO_DOGS})
    verdict = (await run(request, pipeline(FakeParser(READ), segmenter)))["verdict"]
    assert [row["status"] for row in verdict["entities"]] == ["unknown", "unknown"]
    assert segmenter.tasks[0].judged == JudgedImage(0, 1, False, 16)
    assert segmenter.tasks[0].judged is not None
    assert not segmenter.tasks[0].judged.is_compared


async def test_an_entity_that_the_segmenter_cannot_read_is_not_judged() -> None:
    segmenter = Witness({10: TWO_DOGS, 11: ONE_DOG})
    segmenter.reasons = {"blue sofa": "not in this model's language"}
    document = await run(job(10, 11, verdict=True), pipeline(FakeParser(READ), segmenter))
    assert [row["entity"] for row in document["verdict"]["entities"]] == document["entities"] == ["dogs"]


async def test_the_verdict_is_of_the_model_that_the_document_is_of() -> None:
    """The first answer about the contextual image comes from an older model, which saw no dog."""

    class Rolling(Witness):
        async def segment(self, task: ImageTask, again: Again) -> SegmentedImage | OtherModel:
            answer = await super().segment(task, again)
            assert isinstance(answer, SegmentedImage)
            if answer.document["width"] == 10 and task.version is None:
                old = Evidence(Picture(()), {**IDENTITY, "model": "old"})
                return SegmentedImage(answer.document, ModelStamp("old", "1", 1.0, "a"), {}, old)
            return SegmentedImage(answer.document, ModelStamp("new", "2", 2.0, "b"), {}, answer.evidence)

    segmenter = Rolling({10: TWO_DOGS, 11: ONE_DOG})
    verdict = (await run(job(10, 11, verdict=True), pipeline(FakeParser(READ), segmenter)))["verdict"]
    assert [row["object_id"] for row in verdict["references"]] == ["dogs_0", "dogs_1"]
    assert verdict["identity"] == IDENTITY
    assert [task.judged for task in segmenter.tasks[:2]] == [segmenter.tasks[2].judged, JudgedImage(None, 1, True, 16)]


@pytest.mark.parametrize("identity", [None, IDENTITY], ids=["no identity model", "an identity model"])
async def test_references_are_listed_only_where_individuals_are_compared(identity: IdentityDict | None) -> None:
    segmenter = Witness({10: TWO_DOGS, 11: ONE_DOG}, identity)
    verdict = (await run(job(10, 11, verdict=True), pipeline(FakeParser(READ), segmenter)))["verdict"]
    assert (verdict["identity"], bool(verdict["references"])) == (identity, identity is not None)


class Painter(Witness):
    """Draws overlays; those with the verdict may fail."""

    def __init__(self, pictures: dict[int, Picture], error: GensegError | None = None) -> None:
        super().__init__(pictures)
        self.error = error

    async def segment(self, task: ImageTask, again: Again) -> SegmentedImage | OtherModel:
        answer = await super().segment(task, again)
        assert isinstance(answer, SegmentedImage)
        answer.document["overlay"] = "data:plain"
        objects: Any = [{"object_id": "dogs_0", "label": "dogs", "mask_rle": {"size": [4, 10], "counts": "X1"}}]
        return replace(answer, drawn=objects if task.options.verdict else None)

    async def overlay(self, task: OverlayTask) -> str:
        if self.error is not None:
            raise self.error
        return await super().overlay(task)


async def test_overlays_show_the_verdict_in_the_result_and_not_before() -> None:
    segmenter = Painter({10: TWO_DOGS, 11: Picture(()), 12: ONE_DOG})
    request = job(10, 11, 12, verdict=True, overlays=True, overlay_style="outline", mask_format="none")
    events = [event async for event in pipeline(FakeParser(READ), segmenter).stream(request, AppConfig(), "r")]
    assert [event["image"]["overlay"] for event in events if event["event"] == "image"] == ["data:plain"] * 3
    assert events[-1]["event"] == "result"
    result = events[-1]["result"]
    overlays = [image["overlay"] for image in images_of(result)]
    assert overlays == ["data:overlay 1", "data:plain", "data:overlay 2"], "the second image has nothing to say"
    verdict = result["verdict"]
    assert verdict is not None
    assert [(task.marks, task.style) for task in segmenter.overlays] == [
        (marks_of(verdict, "contextual", 0), "outline"), (marks_of(verdict, "generated", 0), "outline"),
    ]  # fmt: skip
    first = segmenter.overlays[0]
    assert (first.key, first.data) == (segmenter.tasks[0].key, segmenter.tasks[0].data)
    assert first.entities == ["dogs", "blue sofa"]
    assert first.objects[0]["mask_rle"]["counts"] == "X1", "masks travel, whatever the format"


async def test_what_is_drawn_is_put_together_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest verdict takes half a second; on the event loop, or in a thread an image, others would wait."""
    threads: list[int] = []

    def noted(*arguments: Any) -> Marks:
        threads.append(threading.get_ident())
        return marks_of(*arguments)

    monkeypatch.setattr("serve_app.serving.judging.marks_of", noted)
    await run(
        job(10, 12, verdict=True, overlays=True), pipeline(FakeParser(READ), Painter({10: TWO_DOGS, 12: ONE_DOG}))
    )
    assert len(threads) == 2
    assert len({*threads, threading.get_ident()}) == 2


@pytest.mark.parametrize("options", [{"verdict": True}, {"overlays": True}], ids=["no overlays", "no verdict"])
async def test_overlays_are_drawn_twice_only_where_both_are_asked(options: dict[str, Any]) -> None:
    segmenter = Painter({10: TWO_DOGS, 11: ONE_DOG})
    await run(job(10, 11, **options), pipeline(FakeParser(READ), segmenter))
    assert segmenter.overlays == []


async def test_where_the_verdict_cannot_be_drawn_the_plain_overlay_stays() -> None:
    segmenter = Painter({10: TWO_DOGS, 11: ONE_DOG}, InternalError("lost"))
    document = await run(job(10, 11, verdict=True, overlays=True), pipeline(FakeParser(READ), segmenter))
    assert document["generated_image"]["overlay"] == "data:plain"
    assert document["verdict"]["arrived"] is False


@pytest.mark.parametrize("ticks", range(60))
async def test_a_request_that_is_cancelled_at_any_tick_leaves_nothing_behind(ticks: int) -> None:
    before = asyncio.all_tasks()
    line = pipeline(FakeParser(READ), Painter({10: TWO_DOGS, 11: ONE_DOG}))
    task = asyncio.ensure_future(run(job(10, 11, verdict=True, overlays=True, timeout_s=60), line))
    for _ in range(ticks):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=1)
    assert task.done()
    await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == before
