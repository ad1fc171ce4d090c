"""The interfaces that the pipeline calls: parser, segmenter, fetch and object store. Tests pass fakes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from serve_app.serving.messages import ImageTask, OtherModel, OverlayTask, ParsedPrompt, SegmentedImage
from serve_app.serving.replica.stage import Stage, untold


class ParseHandle(Protocol):
    """A parser call in progress (see remote.ParseCall)."""

    async def reference(self) -> Any:
        """Return the parsed prompt, or an object reference for which the segmenter can wait."""

    async def result(self) -> ParsedPrompt:
        """Wait for the parsed prompt; raises GensegError."""

    def cancel(self) -> None:
        """Stop the call, because its result is no longer needed."""


class ParserStage(Protocol):
    """Parses prompts (see remote.ParserCalls)."""

    def start(
        self, prompt: str, max_entities: int, request_id: str, timeout_s: float, contextual_images: int | None = None
    ) -> ParseHandle:
        """Start parsing a prompt; `contextual_images` is None if no verdict is wanted."""


class SegmenterStage(Protocol):
    """Segments images (see remote.SegmenterCalls)."""

    async def unreadable(self, phrases: Sequence[str], request_id: str, timeout_s: float) -> Mapping[str, str]:
        """Return the reason for each phrase that the segmenter cannot read; raises GensegError."""

    async def segment(
        self, task: ImageTask, again: Callable[[], Coroutine[Any, Any, ParsedPrompt]]
    ) -> SegmentedImage | OtherModel:
        """Segment one image; raises GensegError."""

    async def overlay(self, task: OverlayTask) -> str:
        """Draw an overlay; returns a data URI, raises GensegError."""


@dataclass(frozen=True)
class Stages:
    """The parts that the pipeline calls.

    Attributes:
        parser: parses prompts.
        segmenter: segments images.
        fetch: downloads the bytes of a URL; raises FetchFailed or TooLarge.
        store: turns an image's bytes into the `data` of an ImageTask, such as an object reference.
        timed: returns a context manager that measures a block as the stage of this name.
    """

    parser: ParserStage
    segmenter: SegmenterStage
    fetch: Callable[[str], Awaitable[bytes]]
    store: Callable[[bytes], Awaitable[Any]]
    timed: Callable[[str], AbstractContextManager[Stage]] = untold
