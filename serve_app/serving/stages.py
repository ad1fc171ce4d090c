"""What the pipeline calls: the parser, the segmenter, the fetcher and the store, as protocols. Tests bring fakes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from serve_app.serving.messages import ImageTask, OtherModel, OverlayTask, ParsedPrompt, SegmentedImage
from serve_app.serving.replica.stage import Stage, untold


class ParseHandle(Protocol):
    """A parse under way (see remote.ParseCall)."""

    async def reference(self) -> Any:
        """The answer, or a reference to it that the segmenter can wait for."""

    async def result(self) -> ParsedPrompt:
        """The answer; raises GensegError."""

    def cancel(self) -> None:
        """Nobody waits for it any more."""


class ParserStage(Protocol):
    """Reads prompts (see remote.ParserCalls)."""

    def start(
        self, prompt: str, max_entities: int, request_id: str, timeout_s: float, contextual_images: int | None = None
    ) -> ParseHandle:
        """Start reading a prompt."""


class SegmenterStage(Protocol):
    """Segments images (see remote.SegmenterCalls)."""

    async def unreadable(self, phrases: Sequence[str], request_id: str, timeout_s: float) -> Mapping[str, str]:
        """Return the reasons of the phrases that the segmenter cannot read; raises GensegError."""

    async def segment(
        self, task: ImageTask, again: Callable[[], Coroutine[Any, Any, ParsedPrompt]]
    ) -> SegmentedImage | OtherModel:
        """Segment one image; raises GensegError."""

    async def overlay(self, task: OverlayTask) -> str:
        """Draw an overlay; returns a data URI, raises GensegError."""


@dataclass(frozen=True)
class Stages:
    """What the pipeline calls.

    Attributes:
        parser: reads prompts.
        segmenter: segments images.
        fetch: URL to bytes; raises FetchFailed or TooLarge.
        store: bytes to what an ImageTask carries.
        timed: times a block as a stage of this name.
    """

    parser: ParserStage
    segmenter: SegmenterStage
    fetch: Callable[[str], Awaitable[bytes]]
    store: Callable[[bytes], Awaitable[Any]]
    timed: Callable[[str], AbstractContextManager[Stage]] = untold
