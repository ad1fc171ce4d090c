"""Fakes for the parser, the segmenter and the fetcher, and requests for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from serve_app.config.schema import AppConfig
from serve_app.errors import FetchFailed, GensegError
from serve_app.schemas.dicts import ModelsDict, SegmentedDict
from serve_app.schemas.requests import ImageInput, SegmentRequest
from serve_app.serving.documents import result_of
from serve_app.serving.messages import ImageTask, ModelStamp, OtherModel, OverlayTask, ParsedPrompt, SegmentedImage
from serve_app.serving.pipeline import Pipeline
from serve_app.serving.stages import Stages
from serve_app.verdict.evidence import Evidence, Picture
from tests.conftest import png

MODELS: ModelsDict = {"text_parser": "configured", "segmentation": "configured"}
Again = Callable[[], Coroutine[Any, Any, ParsedPrompt]]


class FakeParse:
    def __init__(self, outcome: ParsedPrompt | GensegError, seconds: float) -> None:
        self._task = asyncio.ensure_future(self._run(outcome, seconds))

    async def _run(self, outcome: ParsedPrompt | GensegError, seconds: float) -> ParsedPrompt:
        await asyncio.sleep(seconds)
        if isinstance(outcome, GensegError):
            raise outcome
        return outcome

    async def reference(self) -> Any:
        return self._task

    async def result(self) -> ParsedPrompt:
        return await asyncio.shield(self._task)

    def cancel(self) -> None:
        self._task.cancel()


class FakeParser:
    def __init__(self, outcome: ParsedPrompt | GensegError | None = None, seconds: float = 0) -> None:
        self.outcome, self.seconds, self.started = outcome or ParsedPrompt(("dog", "sofa")), seconds, 0
        self.contextual_images: int | None = None
        self.asked: list[tuple[str, int, str, float]] = []

    def start(
        self, prompt: str, max_entities: int, request_id: str, timeout_s: float, contextual_images: int | None = None
    ) -> FakeParse:
        self.started += 1
        self.asked.append((prompt, max_entities, request_id, timeout_s))
        self.contextual_images = contextual_images
        return FakeParse(self.outcome, self.seconds)


class FakeSegmenter:
    """Finds one object of each entity; the first image takes longest; outcomes by image size."""

    def __init__(self, seconds: dict[int, float] | None = None, outcomes: dict[int, GensegError] | None = None) -> None:
        self.seconds, self.outcomes = seconds or {}, outcomes or {}
        self.tasks: list[ImageTask] = []
        self.cancelled = 0
        self.reasons: dict[str, str] = {}
        self.overlays: list[OverlayTask] = []

    async def unreadable(self, phrases: Sequence[str], *_: object) -> dict[str, str]:
        return self.reasons_of(phrases)

    def reasons_of(self, phrases: Sequence[str]) -> dict[str, str]:
        """Which of these phrases cannot be read, and why."""
        return {phrase: self.reasons[phrase] for phrase in phrases if phrase in self.reasons}

    async def segment(self, task: ImageTask, _: Again) -> SegmentedImage | OtherModel:
        self.tasks.append(task)
        width = int.from_bytes(task.data[16:20], "big")  # of a PNG
        try:
            await asyncio.sleep(self.seconds.get(width, 0))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if width in self.outcomes:
            raise self.outcomes[width]
        parsed = await task.parsed if asyncio.isfuture(task.parsed) else task.parsed
        assert isinstance(parsed, ParsedPrompt)
        unreadable = self.reasons_of(parsed.entities)
        return SegmentedImage(
            image_of(width, parsed.without(unreadable).entities),
            self.stamp(),
            unreadable,
            self.evidence(width, task),
        )

    def evidence(self, _width: int, task: ImageTask) -> Evidence | None:
        """What the image shows, for the verdict: nothing, unless a test says otherwise."""
        return None if task.judged is None else Evidence(Picture(()))

    async def overlay(self, task: OverlayTask) -> str:
        self.overlays.append(task)
        return f"data:overlay {len(self.overlays)}"

    def stamp(self) -> ModelStamp:
        return ModelStamp("fake", "1", 0.0, "a")


def image_of(width: int, entities: Sequence[str] = (), presence: float = 0.5) -> SegmentedDict:
    return {
        "width": width, "height": 4, "objects": [], "presence": dict.fromkeys(entities, presence), "error": None,
    }  # fmt: skip


async def no_fetch(_: str) -> bytes:
    raise FetchFailed("may not be fetched")


async def keep(data: bytes) -> bytes:
    return data


def pipeline(parser: FakeParser | None = None, segmenter: FakeSegmenter | None = None) -> Pipeline:
    return Pipeline(Stages(parser or FakeParser(), segmenter or FakeSegmenter(), no_fetch, keep), MODELS)


def images(*widths: int) -> list[ImageInput]:
    return [ImageInput(data=png(width, 4), name=f"{width}.png") for width in widths]


def job(*widths: int, **fields: Any) -> SegmentRequest:
    fields.setdefault("prompt", "a dog on a sofa")
    return SegmentRequest(contextual_images=images(*widths[:-1]), generated_image=images(widths[-1])[0], **fields)


async def run(request: SegmentRequest, line: Pipeline, config: AppConfig | None = None) -> Any:
    return await result_of(line.stream(request, config or AppConfig(), "id-1"))
