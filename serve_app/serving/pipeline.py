"""The graph's way: read the prompt and the images at the same time, fan out, merge in the order of the inputs.

Knows no Ray and no HTTP: the parser, the segmenter and the fetcher come in, tests bring fakes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from serve_app.config.schema import AppConfig, LimitsConfig
from serve_app.errors import DeadlineExceeded, GensegError, InternalError
from serve_app.images import decoding
from serve_app.images.base64 import decode_base64
from serve_app.images.files import is_jpeg
from serve_app.schemas.dicts import ImageDict, ModelsDict, ResultDict, SegmentedDict, TimingsDict
from serve_app.schemas.events import EventDict
from serve_app.schemas.requests import SegmentRequest
from serve_app.serving import documents
from serve_app.serving.checked_request import CheckedRequest, RequestImage, check
from serve_app.serving.messages import ImageTask, ParsedPrompt

SMALL_BYTES = 256 * 1024
"""JPEGs up to this size are looked at on the event loop: a tenth of a millisecond, less than a thread costs. Headers of
other formats may hold much to inflate."""


class ParseHandle(Protocol):
    """A parse under way (see remote.ParseCall)."""

    async def entities(self) -> Any:
        """Entities, or a reference that the segmenter can wait for."""

    async def result(self) -> ParsedPrompt:
        """The entities; raises GensegError."""

    def cancel(self) -> None:
        """Nobody waits for it any more."""


class ParserStage(Protocol):
    """Reads prompts (see remote.ParserCalls)."""

    def start(self, prompt: str, max_entities: int, request_id: str, timeout_s: float) -> ParseHandle:
        """Start reading a prompt."""


class SegmenterStage(Protocol):
    """Segments images (see remote.SegmenterCalls)."""

    async def segment(
        self, task: ImageTask, again: Callable[[], Coroutine[Any, Any, tuple[str, ...]]]
    ) -> SegmentedDict:
        """Segment one image; raises GensegError."""


@dataclass(frozen=True)
class Stages:
    """What the pipeline calls.

    Attributes:
        parser: reads prompts.
        segmenter: segments images.
        fetch: URL to bytes; raises FetchFailed or TooLarge.
        store: bytes to what an ImageTask carries.
    """

    parser: ParserStage
    segmenter: SegmenterStage
    fetch: Callable[[str], Awaitable[bytes]]
    store: Callable[[bytes], Awaitable[Any]]


@dataclass(frozen=True)
class LoadedImage:
    """An image file as it came.

    Attributes:
        data: the file's bytes.
        header: what the file says of itself; within the limits.
        key: content hash.
    """

    data: bytes
    header: decoding.ImageHeader
    key: str


@dataclass
class Run:
    """One request under way; the only thing that changes while it runs."""

    request: CheckedRequest
    limits: LimitsConfig
    request_id: str
    started: float
    emit: Callable[[EventDict], None]
    timings_ms: TimingsDict = field(default_factory=lambda: TimingsDict(parse=0.0, segment=0.0, total=0.0))

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; never below a millisecond, so that whoever gets it can say no itself."""
        return max(0.001, self.started + self.request.timeout_s - time.monotonic())

    def elapsed_ms(self) -> float:
        """Milliseconds since the request came."""
        return round((time.monotonic() - self.started) * 1000, 3)


class Pipeline:
    """Runs requests through the stages.

    Args:
        stages: what it calls.
        models: the models' names, for `meta`.
    """

    def __init__(self, stages: Stages, models: ModelsDict) -> None:
        self._stages = stages
        self._models = models

    async def stream(
        self, request: SegmentRequest, config: AppConfig, request_id: str
    ) -> AsyncGenerator[EventDict, None]:
        """Do the whole job and tell of each part as it is done.

        Args:
            request: of the wire.
            config: limits, and what the request leaves open.
            request_id: for the logs and for fairness between requests.

        Yields:
            An `entities` event, an `image` event as each image finishes, last a `result` event.

        Raises:
            GensegError: the request as a whole failed; no further event follows.
            CancelledError: the caller was cancelled, or the calls below were: Ray cancels them when a client leaves.
        """
        checked = check(request, config)
        queue: asyncio.Queue[EventDict | BaseException] = asyncio.Queue()
        run = Run(checked, config.limits, request_id, time.monotonic(), queue.put_nowait)
        work = asyncio.ensure_future(self._work(run))
        work.add_done_callback(lambda done: queue.put_nowait(_end_of(done)))
        try:
            while True:
                try:
                    async with asyncio.timeout(run.left_s):
                        event = await queue.get()
                except TimeoutError:
                    raise DeadlineExceeded(f"the request was not done within {checked.timeout_s:g} s") from None
                if isinstance(event, BaseException):
                    raise event
                yield event
                if event["event"] == "result":
                    return
        finally:
            work.cancel()
            await asyncio.wait([work])  # unlike `await work`, it tells our own cancellation from that of the work

    async def _work(self, run: Run) -> None:
        """Emit every event.

        Raises:
            BaseExceptionGroup: what ended the work early, first of all the error that came first.
        """
        request = run.request
        parse: ParseHandle | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                loads = [tasks.create_task(self._load(image, run.limits)) for image in request.images]
                # Images that came with the request are checked before the parser works; only those of URLs, which
                # take longer, load beside it.
                for image, load in zip(request.images, loads, strict=True):
                    if image.source.url is None:
                        await load
                if request.entities is None:
                    parse = self._stages.parser.start(
                        request.prompt, run.limits.max_entities, run.request_id, run.left_s
                    )
                entities = tasks.create_task(self._entities(run, parse, loads))
                # Every image is checked before any is segmented: a bad one costs no model time.
                files = [await load for load in loads]
                parts = [
                    tasks.create_task(self._segment(run, image, file, parse, entities))
                    for image, file in zip(request.images, files, strict=True)
                ]
                found = [await part for part in parts]
                run.emit({"event": "result", "result": self._merge(run, await entities, found)})
        finally:
            if parse is not None:
                parse.cancel()

    async def _entities(
        self, run: Run, parse: ParseHandle | None, loads: Sequence[asyncio.Task[LoadedImage]]
    ) -> tuple[str, ...]:
        parsed = ParsedPrompt(run.request.entities or ()) if parse is None else await parse.result()
        if parse is not None:
            run.timings_ms["parse"] = run.elapsed_ms()
        # Once the first event is out, the status of a stream is 200: a bad image has to be known by then.
        await asyncio.gather(*loads)
        run.emit({"event": "entities", **parsed.document()})
        return parsed.entities

    async def _load(self, image: RequestImage, limits: LimitsConfig) -> LoadedImage:
        source = image.source
        try:
            if isinstance(source.data, str):
                return await asyncio.to_thread(_read_text, source.data, limits)
            data = await self._stages.fetch(source.url or "") if source.data is None else source.data
            if len(data) <= SMALL_BYTES and is_jpeg(data):
                return _read(data, limits)
            return await asyncio.to_thread(_read, data, limits)
        except GensegError as error:
            raise error.at(image.field) from None

    async def _segment(
        self,
        run: Run,
        image: RequestImage,
        file: LoadedImage,
        parse: ParseHandle | None,
        entities: asyncio.Task[tuple[str, ...]],
    ) -> ImageDict:
        options = run.request.options
        task = ImageTask(
            key=file.key,
            data=await self._stages.store(file.data),
            entities=run.request.entities if parse is None else await parse.entities(),
            options=options,
            request_id=run.request_id,
            timeout_s=run.left_s,
        )

        async def again() -> tuple[str, ...]:
            return await asyncio.shield(entities)

        try:
            found = await self._stages.segmenter.segment(task, again)
        except InternalError as error:
            # The other images' results are not lost; if there are none, the request fails as a whole.
            if len(run.request.images) == 1:
                raise error.at(image.field) from None
            found = documents.failed_image_document((file.header.width, file.header.height), error.at(image.field))
            if options.overlays:
                found["overlay"] = None
        except GensegError as error:
            raise error.at(image.field) from None
        run.timings_ms["segment"] = max(run.timings_ms["segment"], run.elapsed_ms())
        document: ImageDict = {"path": image.path, **found}
        await asyncio.shield(entities)  # the entities event comes first
        run.emit({"event": "image", "role": image.role, "index": image.index, "image": document})
        return document

    def _merge(self, run: Run, entities: Sequence[str], found: Sequence[ImageDict]) -> ResultDict:
        failures = [image["error"] for image in found]
        if failures[0] is not None and None not in failures:
            raise InternalError(failures[0]["message"], failures[0]["field"])
        run.timings_ms["total"] = run.elapsed_ms()
        request = run.request
        with_roles = [*zip(request.images, found, strict=True)]
        return documents.result_document(
            prompt=request.prompt,
            entities=entities,
            contextual_images=[document for image, document in with_roles if image.role == "contextual"],
            generated_image=next((document for image, document in with_roles if image.role == "generated"), None),
            meta={
                "request_id": run.request_id,
                "models": {**self._models},
                "threshold": request.options.threshold,
                "mask_threshold": request.options.mask_threshold,
                "timings_ms": {**run.timings_ms},
            },
        )


def _read_text(text: str, limits: LimitsConfig) -> LoadedImage:
    return _read(decode_base64(text, limits.max_image_bytes), limits)


def _read(data: bytes, limits: LimitsConfig) -> LoadedImage:
    return LoadedImage(data, decoding.read_header(data, limits), decoding.content_key(data))


def _end_of(work: asyncio.Task[None]) -> BaseException:
    """Return what ended the work. Work that ended well has emitted its result, after which no event is read."""
    if work.cancelled():
        return asyncio.CancelledError()
    error = work.exception()
    # A group holds the error that came first, and what came of cancelling the rest.
    return error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error or asyncio.CancelledError()
