"""The graph's way: read the prompt and the images at the same time, fan out, merge in the order of the inputs.

Knows no Ray and no HTTP: the parser, the segmenter and the fetcher come in, tests bring fakes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

from serve_app.config.schema import AppConfig, LimitsConfig
from serve_app.errors import DeadlineExceeded, GensegError, InternalError
from serve_app.images import decoding
from serve_app.images.base64 import decode_base64
from serve_app.images.files import is_jpeg
from serve_app.schemas.requests import SegmentRequest
from serve_app.serving import documents
from serve_app.serving.checked_request import Slot, check_request, options_of, slots_of
from serve_app.serving.messages import ImageTask, ParsedPrompt, SegmentOptions

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


class Parser(Protocol):
    """Whoever reads prompts."""

    def start(self, prompt: str, max_entities: int, request_id: str, timeout_s: float) -> ParseHandle:
        """Start reading a prompt."""


class Segmenter(Protocol):
    """Whoever segments images."""

    async def segment(
        self, task: ImageTask, again: Callable[[], Coroutine[Any, Any, tuple[str, ...]]]
    ) -> dict[str, Any]:
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

    parser: Parser
    segmenter: Segmenter
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

    request: SegmentRequest
    request_id: str
    deadline: float
    started: float
    timings_ms: dict[str, float] = field(default_factory=lambda: {"parse": 0.0, "segment": 0.0, "total": 0.0})

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; never below a millisecond, so that whoever gets it can say no itself."""
        return max(0.001, self.deadline - time.monotonic())

    def elapsed_ms(self) -> float:
        """Milliseconds since the request came."""
        return round((time.monotonic() - self.started) * 1000, 3)


class Pipeline:
    """Runs requests through the stages.

    Args:
        stages: what it calls.
        models: the models' names, for `meta`.
    """

    def __init__(self, stages: Stages, models: dict[str, str]) -> None:
        self._stages = stages
        self._models = models

    async def run(self, request: SegmentRequest, config: AppConfig, request_id: str) -> dict[str, Any]:
        """Do the whole job.

        Returns:
            The result document.

        Raises:
            GensegError: the request as a whole failed.
        """
        document: dict[str, Any] = {}
        async with aclosing(self.stream(request, config, request_id)) as events:
            async for event in events:
                document = event.get("result", document)
        return document

    async def stream(
        self, request: SegmentRequest, config: AppConfig, request_id: str
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Do the whole job and tell of each part as it is done.

        Yields:
            {"event": "entities", …}, then {"event": "image", …} as each image finishes, last {"event": "result", …}.

        Raises:
            GensegError: the request as a whole failed; no further event follows.
            CancelledError: the caller was cancelled, or the calls below were: Ray cancels them when a client leaves.
        """
        timeout_s = min(request.timeout_s or config.serving.timeout_s, config.serving.max_timeout_s)
        started = time.monotonic()
        run = Run(check_request(request, config), request_id, started + timeout_s, started)
        queue: asyncio.Queue[dict[str, Any] | BaseException] = asyncio.Queue()
        work = asyncio.ensure_future(self._work(run, config, queue.put_nowait))
        try:
            while True:
                async with asyncio.timeout(run.left_s):
                    event = await queue.get()
                if isinstance(event, BaseException):
                    raise event
                yield event
                if event["event"] == "result":
                    return
        except TimeoutError:
            raise DeadlineExceeded(f"the request was not done within {timeout_s:g} s") from None
        finally:
            work.cancel()
            await asyncio.wait([work])  # unlike `await work`, it tells our own cancellation from that of the work

    async def _work(self, run: Run, config: AppConfig, emit: Callable[[dict[str, Any] | BaseException], None]) -> None:
        """Emit every event, or the exception that ends them."""
        tasks: list[asyncio.Future[Any]] = []
        parse: ParseHandle | None = None
        try:
            slots = slots_of(run.request)
            loaded = [asyncio.ensure_future(self._load(slot, config)) for slot in slots]
            tasks = [*loaded]
            # Images that came with the request are checked before the parser works; only those of URLs, which take
            # longer, load beside it.
            await _all_or_first_error(
                [load for slot, load in zip(slots, loaded, strict=True) if slot.source.url is None]
            )
            if run.request.entities is None:
                parse = self._stages.parser.start(
                    run.request.prompt, config.limits.max_entities, run.request_id, run.left_s
                )
            entities = asyncio.ensure_future(self._entities(run, parse, loaded, emit))
            tasks += [entities]
            # Every image is checked before any is segmented: a bad one costs no model time.
            files = await _all_or_first_error(loaded, entities)
            options = options_of(run.request, config)
            parts = [
                asyncio.ensure_future(self._segment(run, slot, image, options, parse, entities, emit))
                for slot, image in zip(slots, files, strict=True)
            ]
            tasks += parts
            documents = await _all_or_first_error(parts, entities)
            emit({"event": "result", "result": self._merge(run, options, await entities, slots, documents)})
        except (Exception, asyncio.CancelledError) as error:
            # Also the end by cancellation, which may come from below: who waits for events must not wait in vain.
            emit(error)
        finally:
            for task in tasks:
                task.cancel()
            if parse is not None:
                parse.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _entities(
        self,
        run: Run,
        parse: ParseHandle | None,
        loaded: Sequence[asyncio.Future[LoadedImage]],
        emit: Callable[[dict[str, Any]], None],
    ) -> tuple[str, ...]:
        parsed = ParsedPrompt(tuple(run.request.entities or ())) if parse is None else await parse.result()
        if parse is not None:
            run.timings_ms["parse"] = run.elapsed_ms()
        dropped = [{"entity": entity, "reason": reason} for entity, reason in parsed.dropped]
        # Once the first event is out, the status of a stream is 200: a bad image has to be known by then.
        await asyncio.gather(*loaded)
        emit({"event": "entities", "entities": [*parsed.entities], "dropped": dropped})
        return parsed.entities

    async def _load(self, slot: Slot, config: AppConfig) -> LoadedImage:
        """Bytes of an image, its header checked."""
        limits = config.limits
        try:
            source = slot.source
            if source.url is not None:
                data = await self._stages.fetch(source.url)
            elif isinstance(source.data, bytes):
                data = source.data
            else:
                data = await asyncio.to_thread(decode_base64, source.data or "", limits.max_image_bytes)
            if len(data) <= SMALL_BYTES and is_jpeg(data):
                return _inspect(data, limits)
            return await asyncio.to_thread(_inspect, data, limits)
        except GensegError as error:
            raise error.at(slot.place) from None

    async def _segment(
        self,
        run: Run,
        slot: Slot,
        image: LoadedImage,
        options: SegmentOptions,
        parse: ParseHandle | None,
        entities: asyncio.Future[tuple[str, ...]],
        emit: Callable[[dict[str, Any]], None],
    ) -> dict[str, Any]:
        task = ImageTask(
            key=image.key,
            data=await self._stages.store(image.data),
            entities=run.request.entities if parse is None else await parse.entities(),
            options=options,
            request_id=run.request_id,
            timeout_s=run.left_s,
        )

        async def again() -> tuple[str, ...]:
            return await asyncio.shield(entities)

        try:
            document = await self._stages.segmenter.segment(task, again)
        except InternalError as error:
            # The other images' results are not lost; if there are none, the request fails as a whole.
            if len(slots_of(run.request)) == 1:
                raise error.at(slot.place) from None
            document = documents.failed_image_document((image.header.width, image.header.height), error.at(slot.place))
            if options.overlays:
                document["overlay"] = None
        except GensegError as error:
            raise error.at(slot.place) from None
        run.timings_ms["segment"] = max(run.timings_ms["segment"], run.elapsed_ms())
        document = {"path": slot.path, **document}
        await asyncio.shield(entities)  # the entities event comes first
        emit({"event": "image", "role": slot.role, "index": slot.index, "image": document})
        return document

    def _merge(
        self,
        run: Run,
        options: SegmentOptions,
        entities: Sequence[str],
        slots: Sequence[Slot],
        images: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        if all(document["error"] is not None for document in images):
            raise InternalError(images[0]["error"]["message"], images[0]["error"]["field"])
        run.timings_ms["total"] = run.elapsed_ms()
        by_role: dict[str, list[dict[str, Any]]] = {"contextual": [], "generated": []}
        for slot, document in zip(slots, images, strict=True):
            by_role[slot.role].append(document)
        return documents.result_document(
            prompt=run.request.prompt,
            entities=entities,
            contextual_images=by_role["contextual"],
            generated_image=by_role["generated"][0] if by_role["generated"] else None,
            meta={
                "request_id": run.request_id,
                "models": dict(self._models),
                "threshold": options.threshold,
                "mask_threshold": options.mask_threshold,
                "timings_ms": dict(run.timings_ms),
            },
        )


def _inspect(data: bytes, limits: LimitsConfig) -> LoadedImage:
    return LoadedImage(data, decoding.read_header(data, limits), decoding.content_key(data))


async def _all_or_first_error(
    tasks: Sequence[asyncio.Future[Any]], beside: asyncio.Future[Any] | None = None
) -> list[Any]:
    """Wait for all tasks; raise the first error as soon as it is there, also that of the task beside them."""
    pending: set[asyncio.Future[Any]] = {*tasks} if beside is None else {*tasks, beside}
    wanted = set(tasks)
    while wanted & pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    return [task.result() for task in tasks]
