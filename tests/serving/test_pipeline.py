"""The pipeline with fakes for the models: order, overlap, errors, deadlines."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from serve_app.config.schema import AppConfig, LimitsConfig
from serve_app.errors import (
    DeadlineExceeded,
    FetchFailed,
    GensegError,
    InternalError,
    InvalidImage,
    InvalidModelReply,
    InvalidRequest,
    TooLarge,
)
from serve_app.masks.rle import encode_rle
from serve_app.masks.steps import finish
from serve_app.schemas.dicts import ObjectDict
from serve_app.schemas.documents import ResultDocument
from serve_app.schemas.requests import ImageInput, SegmentRequest
from serve_app.serving.documents import MaskBytes, to_mask_format
from serve_app.serving.messages import ImageTask, ModelStamp, OtherModel, ParsedPrompt, SegmentedImage
from serve_app.serving.pipeline import Pipeline
from serve_app.serving.stages import Stages
from tests.conftest import png
from tests.serving.fakes import (
    MODELS,
    Again,
    FakeParser,
    FakeSegmenter,
    image_of,
    images,
    job,
    keep,
    no_fetch,
    pipeline,
    run,
)


async def test_run_merges_in_input_order_whatever_finishes_first() -> None:
    line = pipeline(segmenter=FakeSegmenter({10: 0.06, 11: 0.03, 12: 0.0}))
    document = await run(job(10, 11, 12), line)
    assert [image["path"] for image in document["contextual_images"]] == ["10.png", "11.png"]
    assert document["generated_image"]["path"] == "12.png"
    assert [image["width"] for image in document["contextual_images"]] == [10, 11]


async def test_run_writes_a_document_of_the_published_shape() -> None:
    document = await run(job(10, 11), pipeline())
    checked = ResultDocument.model_validate(document)
    assert checked.entities == ["dog", "sofa"]
    assert list(document) == [
        "prompt", "entities", "contextual_images", "generated_image", "verdict", "box_format", "coordinate_unit",
        "meta",
    ]  # fmt: skip
    assert list(document["generated_image"]) == ["path", "width", "height", "objects", "presence", "error"]
    assert document["meta"]["request_id"] == "id-1"


async def test_masks_that_come_packed_are_unpacked_in_events_and_in_the_result() -> None:
    class Packing(FakeSegmenter):
        async def segment(self, task: ImageTask, again: Again) -> SegmentedImage | OtherModel:
            rle = encode_rle(np.eye(4, 10, dtype=np.bool_))
            found: list[ObjectDict] = [
                {"object_id": f"dog_{n}", "label": "dog", "bbox": [0, 0, 4, 4], "score": 0.9, "mask_rle": rle}
                for n in range(2)
            ]
            answer = await super().segment(task, again)
            assert isinstance(answer, SegmentedImage)
            packed = finish(to_mask_format(found, "polygon", MaskBytes(), packed=True))
            return replace(answer, document={**answer.document, "objects": packed})

    request = job(10, entities=["dog"], mask_format="polygon")
    *_, image, result = [event async for event in pipeline(segmenter=Packing()).stream(request, AppConfig(), "id")]
    assert image["event"] == "image"
    assert result["event"] == "result"
    assert result["result"]["generated_image"] == image["image"]
    generated = ResultDocument.model_validate_json(json.dumps(result["result"])).generated_image
    assert generated is not None
    assert [len(found.mask_polygons or ()) for found in generated.objects or ()] == [4, 4]


async def test_stream_tells_entities_first_and_images_as_they_finish() -> None:
    line = pipeline(segmenter=FakeSegmenter({10: 0.06, 11: 0.03, 12: 0.0}))
    events = [event async for event in line.stream(job(10, 11, 12), AppConfig(), "id")]
    assert [event["event"] for event in events] == ["entities", "image", "image", "image", "result"]
    assert [(event["role"], event["index"]) for event in events if event["event"] == "image"] == [
        ("generated", 0), ("contextual", 1), ("contextual", 0),
    ]  # fmt: skip


async def test_images_start_while_the_prompt_is_read() -> None:
    parser, segmenter = FakeParser(seconds=0.2), FakeSegmenter({10: 0.2})
    started = time.monotonic()
    await run(job(10), pipeline(parser, segmenter))
    assert time.monotonic() - started < 0.35


async def test_given_entities_bypass_the_parser() -> None:
    parser = FakeParser()
    document = await run(job(10, prompt="", entities=[" Red Sofa ", "red sofa", "dog"]), pipeline(parser))
    assert parser.started == 0
    assert [entity.lower() for entity in document["entities"]] == ["red sofa", "dog"]


@pytest.mark.parametrize(
    ("request_", "kind", "words"),
    [
        (SegmentRequest(prompt="a dog"), InvalidRequest, "no image"),
        (job(10, prompt="  "), InvalidRequest, "prompt: empty"),
        (job(10, prompt="x" * 4001), TooLarge, "4001 characters"),
        (job(*range(10, 27)), TooLarge, "17 images"),
        (job(10, entities=[f"thing {n}" for n in range(33)]), TooLarge, "33 entities"),
        (job(10, entities=["dog", " "]), InvalidRequest, "entities"),
        (job(10, entities=["dog", "x" * 257]), TooLarge, r"entities\[1\]: 257 characters"),
        (job(10, thresholds={f"thing {n}": 0.5 for n in range(65)}), TooLarge, "thresholds: 65"),
        (job(10, thresholds={"x" * 257: 0.5}), TooLarge, "thresholds: a name of 257 characters"),
    ],
    ids=[
        "no image",
        "empty prompt",
        "long prompt",
        "images",
        "entities",
        "blank entity",
        "long entity",
        "thresholds",
        "long threshold",
    ],
)
async def test_requests_over_a_limit_are_refused_before_any_work(
    request_: SegmentRequest, kind: type[GensegError], words: str
) -> None:
    parser, segmenter = FakeParser(), FakeSegmenter()
    with pytest.raises(kind, match=words):
        await run(request_, pipeline(parser, segmenter))
    assert (parser.started, segmenter.tasks) == (0, [])


async def test_a_bad_image_is_named_and_no_image_is_segmented() -> None:
    parser, segmenter = FakeParser(), FakeSegmenter()
    request = job(10, 11).model_copy(update={"contextual_images": [*images(10), ImageInput(data=b"no image")]})
    with pytest.raises(InvalidImage, match=r"^contextual_images\[1\]: "):
        await run(request, pipeline(parser, segmenter))
    assert segmenter.tasks == []
    assert parser.started == 0, "nor is the prompt read"


async def test_a_stream_with_a_bad_image_has_no_event_before_the_error() -> None:
    request = job(10, entities=["dog"]).model_copy(update={"generated_image": ImageInput(data=b"no image")})
    with pytest.raises(InvalidImage, match=r"^generated_image: "):
        await anext(pipeline().stream(request, AppConfig(), "r"))


async def test_a_refused_url_is_named() -> None:
    request = job(10).model_copy(update={"generated_image": ImageInput(url="http://10.0.0.1/a.png")})
    with pytest.raises(FetchFailed, match=r"^generated_image: "):
        await run(request, pipeline())


async def test_base64_input_is_read() -> None:
    request = job(10).model_copy(update={"generated_image": ImageInput(data=base64.b64encode(png(33, 4)).decode())})
    document = await run(request, pipeline())
    assert (document["generated_image"]["width"], document["generated_image"]["path"]) == (33, "image_0")


async def test_a_parser_error_ends_the_request_and_its_images() -> None:
    segmenter = FakeSegmenter({10: 30.0})
    line = pipeline(FakeParser(InvalidModelReply("no list"), 0.02), segmenter)
    started = time.monotonic()
    with pytest.raises(InvalidModelReply):
        await run(job(10), line)
    assert time.monotonic() - started < 5
    assert segmenter.cancelled == 1


async def test_one_failed_image_does_not_lose_the_others() -> None:
    line = pipeline(segmenter=FakeSegmenter(outcomes={11: InternalError("the segmenter died 3 times")}))
    document = await run(job(10, 11, 12), line)
    failed = document["contextual_images"][1]
    assert failed["objects"] is None
    assert failed["error"]["code"] == "internal"
    assert failed["error"]["field"] == "contextual_images[1]"
    assert document["contextual_images"][0]["error"] is None
    ResultDocument.model_validate(document)


@pytest.mark.parametrize("widths", [(10,), (10, 11)], ids=["one image", "all images"])
async def test_a_request_of_which_every_image_failed_fails(widths: tuple[int, ...]) -> None:
    outcomes: dict[int, GensegError] = {width: InternalError("died") for width in widths}
    with pytest.raises(InternalError, match="died"):
        await run(job(*widths), pipeline(segmenter=FakeSegmenter(outcomes=outcomes)))


async def test_the_deadline_ends_everything() -> None:
    segmenter = FakeSegmenter({10: 30.0})
    with pytest.raises(DeadlineExceeded, match=r"0\.1 s"):
        await run(job(10, timeout_s=0.1), pipeline(segmenter=segmenter))
    assert segmenter.cancelled == 1


async def test_a_time_out_inside_the_work_is_not_the_deadline() -> None:
    async def no_answer(_: str) -> bytes:
        raise TimeoutError("a fetch")

    line = Pipeline(Stages(FakeParser(), FakeSegmenter(), no_answer, keep), MODELS)
    request = SegmentRequest(prompt="a dog", generated_image=ImageInput(url="http://host/a.png"))
    with pytest.raises(TimeoutError, match="a fetch"):
        await run(request, line)


async def test_a_caller_that_goes_away_cancels_the_work() -> None:
    segmenter = FakeSegmenter({10: 30.0})
    caller = asyncio.ensure_future(run(job(10), pipeline(segmenter=segmenter)))
    await asyncio.sleep(0.1)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    await asyncio.sleep(0.05)
    assert segmenter.cancelled == 1


async def test_threshold_zero_is_a_threshold() -> None:
    segmenter = FakeSegmenter()
    await run(job(10, threshold=0.0, mask_threshold=0.0, thresholds={"Dog": 0.0}), pipeline(segmenter=segmenter))
    options = segmenter.tasks[0].options
    assert (options.threshold, options.mask_threshold, options.threshold_of("dog")) == (0.0, 0.0, 0.0)


async def test_limits_come_from_the_configuration() -> None:
    config = AppConfig(limits=LimitsConfig(max_images=1))
    with pytest.raises(TooLarge, match="2 images are over the limit of 1"):
        await run(job(10, 11), pipeline(), config)


class CancelledBelow(FakeSegmenter):
    """Answers for the first image; then, some ticks of the loop later, the caller and the other calls are cancelled.

    That is how a client that hangs up looks from here: Ray cancels the request and the calls below it, in any order.
    """

    def __init__(self, ticks: int, caller: Callable[[], asyncio.Future[Any]] | None) -> None:
        super().__init__()
        self._ticks, self._caller = ticks, caller
        self._calls: list[asyncio.Task[Any]] = []

    async def segment(self, *_: object, **__: object) -> SegmentedImage:
        call = asyncio.current_task()
        assert call is not None
        self._calls.append(call)
        if len(self._calls) == 1:
            asyncio.get_running_loop().call_soon(self._after, self._ticks)
            return SegmentedImage(image_of(8), ModelStamp("fake", "1", 0.0, "a"))
        await asyncio.sleep(3600)
        raise AssertionError("unreachable")

    def _after(self, ticks: int) -> None:
        if ticks:
            asyncio.get_running_loop().call_soon(self._after, ticks - 1)
            return
        if self._caller is not None:
            self._caller().cancel()
        for call in self._calls[1:]:
            call.cancel()


@pytest.mark.parametrize("caller_too", [True, False], ids=["caller and calls", "calls only"])
@pytest.mark.parametrize("ticks", range(12))
async def test_a_request_that_is_cancelled_at_any_moment_ends_at_once(ticks: int, caller_too: bool) -> None:
    before = asyncio.all_tasks()
    holder: list[asyncio.Future[Any]] = []
    segmenter = CancelledBelow(ticks, (lambda: holder[0]) if caller_too else None)
    stages = Stages(FakeParser(), segmenter, no_fetch, keep)
    holder.append(asyncio.ensure_future(run(job(10, 11, 12, timeout_s=60), Pipeline(stages, MODELS))))
    await asyncio.wait(holder, timeout=1)
    assert holder[0].cancelled()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("ticks", range(40))
async def test_a_request_that_is_cancelled_at_any_tick_leaves_nothing_behind(ticks: int) -> None:
    before = asyncio.all_tasks()
    line = pipeline(FakeParser(seconds=0.001), FakeSegmenter({10: 0.001, 11: 0.002}))
    task = asyncio.ensure_future(run(job(10, 11, timeout_s=60), line))
    for _ in range(ticks):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=1)
    assert task.cancelled()
    await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == before


LONG = "a phrase of more tokens than the text encoder has"
REASON = "longer than the 32 tokens that the segmenter reads"


def unable(segmenter: FakeSegmenter) -> FakeSegmenter:
    segmenter.reasons = {LONG: REASON}
    return segmenter


@pytest.mark.parametrize("widths", [(10,), (10, 11)], ids=["one image", "two images"])
async def test_a_phrase_of_the_parser_that_cannot_be_read_is_dropped_and_the_rest_works(
    widths: tuple[int, ...],
) -> None:
    parser = FakeParser(ParsedPrompt(("dog", LONG, "sofa"), (("mood", "mood"),)))
    events = [event async for event in pipeline(parser, unable(FakeSegmenter())).stream(job(*widths), AppConfig(), "r")]
    dropped = [{"entity": "mood", "reason": "mood"}, {"entity": LONG, "reason": REASON}]
    assert events[0] == {"event": "entities", "entities": ["dog", "sofa"], "dropped": dropped}
    assert events[-1]["event"] == "result"
    document = events[-1]["result"]
    assert document["entities"] == ["dog", "sofa"]
    assert document["meta"]["dropped"] == dropped
    assert document["generated_image"] is not None
    assert [*document["generated_image"]["presence"]] == ["dog", "sofa"]


async def test_a_phrase_of_the_callers_that_cannot_be_read_is_refused_at_its_place_before_the_images_work() -> None:
    segmenter = unable(FakeSegmenter())
    with pytest.raises(InvalidRequest) as caught:
        await anext(pipeline(segmenter=segmenter).stream(job(10, entities=["dog", "DOG", LONG]), AppConfig(), "r"))
    assert (caught.value.message, caught.value.field) == (f"entities[2]: {REASON}", "entities[2]")
    assert segmenter.tasks == []


class CannotTell(FakeSegmenter):
    """Cannot say in advance which phrases it cannot read; its answers say so."""

    async def unreadable(self, *_: object) -> dict[str, str]:
        raise DeadlineExceeded("busy")


async def test_what_nobody_could_tell_before_the_images_work_the_answers_tell() -> None:
    document = await run(job(10), pipeline(FakeParser(ParsedPrompt(("dog", LONG))), unable(CannotTell())))
    assert (document["entities"], document["meta"]["dropped"]) == (["dog"], [{"entity": LONG, "reason": REASON}])
    with pytest.raises(InvalidRequest, match=r"^entities\[1\]: longer"):
        await run(job(10, entities=["dog", LONG]), pipeline(segmenter=unable(CannotTell())))


async def test_repeated_entities_count_once_against_the_limit() -> None:
    names = ["dog", "DOG", " dog "] * 20 + ["cafe\u0301", "caf\u00e9"]
    assert (await run(job(10, entities=names), pipeline()))["entities"] == ["dog", "cafe\u0301"]


@pytest.mark.parametrize(
    ("thresholds", "field", "words"),
    [
        ({"red sofas": 0.5}, "thresholds.red sofas", "did you mean 'red sofa'"),
        ({"dog": 0.5, "cat": 0.5}, "thresholds.cat", "not among the entities"),
        ({"str": 0.5}, "thresholds.str", "not among the entities"),
        ({"Dog": 0.3, "dog": 0.5}, "thresholds.Dog", "another threshold names the same entity"),
    ],
    ids=["nearly", "unknown", "a type's name", "twice"],
)
async def test_a_threshold_for_what_is_not_among_the_callers_entities_is_refused(
    thresholds: dict[str, float], field: str, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        await run(job(10, entities=["dog", "red sofa"], thresholds=thresholds), pipeline())
    assert caught.value.field == field


async def test_meta_names_the_thresholds_in_force_and_those_that_nothing_uses() -> None:
    parser = FakeParser(ParsedPrompt(("dog", "Caf\u00e9", LONG), (), "reader"))
    thresholds = {"DOG": 0.0, "cafe\u0301": 0.7, "sofa": 0.9, LONG: 0.2}
    document = await run(job(10, thresholds=thresholds), pipeline(parser, unable(FakeSegmenter())))
    meta = ResultDocument.model_validate(document).meta
    assert meta.thresholds == {"dog": 0.0, "Caf\u00e9": 0.7}
    assert meta.unused_thresholds == ["sofa", LONG]
    assert [*document["meta"]] == [
        "request_id", "models", "threshold", "mask_threshold", "thresholds", "unused_thresholds", "dropped",
        "timings_ms",
    ]  # fmt: skip
    own = await run(job(10, entities=["Dog"], thresholds={" dog": 0.4}), pipeline())
    assert own["meta"]["thresholds"] == {"Dog": 0.4}
    assert (own["meta"]["unused_thresholds"], own["meta"]["dropped"]) == ([], [])


async def test_meta_names_the_models_that_did_the_work() -> None:
    parser = FakeParser(ParsedPrompt(("dog",), (), "reader"))
    assert (await run(job(10), pipeline(parser)))["meta"]["models"] == {"text_parser": "reader", "segmentation": "fake"}
    own = await run(job(10, entities=["dog"]), pipeline())
    assert own["meta"]["models"] == {"text_parser": "configured", "segmentation": "fake"}


async def test_timings_are_durations_of_the_stages() -> None:
    line = pipeline(FakeParser(seconds=0.1), FakeSegmenter({10: 0.3}))
    timings = (await run(job(10), line))["meta"]["timings_ms"]
    assert 100 <= timings["parse"] < 250
    assert 300 <= timings["segment"] <= timings["total"]
