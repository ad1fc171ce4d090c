"""The graph's way: read the prompt and the images at the same time, fan out, merge in the order of the inputs.

Knows no Ray and no HTTP: the parser, the segmenter and the fetcher come in, tests bring fakes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from serve_app.config.schema import AppConfig, LimitsConfig
from serve_app.errors import DeadlineExceeded, GensegError, InternalError
from serve_app.schemas.dicts import ImageDict, MetaDict, ModelsDict, ResultDict, TimingsDict
from serve_app.schemas.events import EventDict
from serve_app.schemas.requests import SegmentRequest
from serve_app.serving import documents
from serve_app.serving.checked_request import CheckedRequest, RequestImage, check
from serve_app.serving.image_files import LoadedImage, load
from serve_app.serving.judging import judged_image, read_given, verdict_of, with_marks
from serve_app.serving.messages import ImageTask, OtherModel, ParsedPrompt, SegmentedImage
from serve_app.serving.one_model import Again, ImagePart, from_one_model
from serve_app.serving.stages import ParseHandle, Stages


@dataclass
class Run:
    """One request under way; the only thing that changes while it runs."""

    request: CheckedRequest
    limits: LimitsConfig
    request_id: str
    started: float
    emit: Callable[[EventDict], None]
    segmenting: float = 0.0
    timings_ms: TimingsDict = field(default_factory=lambda: TimingsDict(parse=0.0, segment=0.0, total=0.0))

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; never below a millisecond, so that whoever gets it can say no itself."""
        return max(0.001, self.started + self.request.timeout_s - time.monotonic())


class Pipeline:
    """Runs requests through the stages.

    Args:
        stages: what it calls.
        models: the configured names; that of the parser stands in `meta` where no prompt was read.
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
                loads = [tasks.create_task(load(image, run.limits, self._stages.fetch)) for image in request.images]
                if request.entities is not None:
                    request.refuse_entities(await self._unreadable(run, request.entities))
                # Images that came with the request are checked before the parser works; only those of URLs, which
                # take longer, load beside it.
                for image, loading in zip(request.images, loads, strict=True):
                    if image.source.url is None:
                        await loading
                if request.entities is None:
                    parse = self._start_parse(run)
                prompt = parse or await read_given(request)
                entities = tasks.create_task(self._entities(run, prompt, loads))
                # Every image is checked before any is segmented: a bad one costs no model time.
                files = [await loading for loading in loads]
                run.segmenting = time.monotonic()
                asked = [
                    tasks.create_task(self._segment(run, image, file, prompt, entities))
                    for image, file in zip(request.images, files, strict=True)
                ]
                parsed = await entities
                parts = await from_one_model([await part for part in asked], self._again(run, files, entities))
                with self._stages.timed("merge") as merge:
                    result = await self._merge(run, parsed, parts)
                    merge.set(images=len(parts), objects=sum(len(part.document["objects"] or ()) for part in parts))
                run.emit({"event": "result", "result": result})
        finally:
            if parse is not None:
                parse.cancel()

    def _start_parse(self, run: Run) -> ParseHandle:
        request = run.request
        return self._stages.parser.start(
            request.prompt,
            run.limits.max_entities,
            run.request_id,
            run.left_s,
            request.contextual_images if request.options.verdict else None,
        )

    async def _entities(
        self, run: Run, prompt: ParseHandle | ParsedPrompt, loads: Sequence[asyncio.Task[LoadedImage]]
    ) -> ParsedPrompt:
        """Emit the `entities` event; return all entities that the segmenter was given, also those it cannot read."""
        if isinstance(prompt, ParsedPrompt):
            parsed = shown = prompt
        else:
            started = time.monotonic()
            parsed = await prompt.result()
            run.timings_ms["parse"] = since_ms(started)
            shown = parsed.without(await self._unreadable(run, parsed.entities))
        # Once the first event is out, the status of a stream is 200: a bad image has to be known by then.
        await asyncio.gather(*loads)
        run.emit({"event": "entities", **shown.document()})
        return parsed

    async def _unreadable(self, run: Run, entities: Sequence[str]) -> Mapping[str, str]:
        try:
            return await self._stages.segmenter.unreadable(entities, run.request_id, run.left_s)
        except GensegError:
            return {}  # nobody could tell: the answers about the images will, or will say what is wrong

    async def _segment(
        self,
        run: Run,
        image: RequestImage,
        file: LoadedImage,
        prompt: ParseHandle | ParsedPrompt,
        entities: asyncio.Task[ParsedPrompt],
    ) -> ImagePart:
        task = ImageTask(
            key=file.key,
            data=await self._stages.store(file.data),
            parsed=prompt if isinstance(prompt, ParsedPrompt) else await prompt.reference(),
            options=run.request.options,
            request_id=run.request_id,
            timeout_s=run.left_s,
            judged=judged_image(run.request, image, run.limits),
        )
        part = await self._ask(run, image, file, task, entities)
        assert isinstance(part, ImagePart), "a task for any version is refused by none"
        return part

    def _again(self, run: Run, files: Sequence[LoadedImage], entities: asyncio.Task[ParsedPrompt]) -> Again:
        """Make what segments an image for another version; its `image` event takes the place of the one before."""

        async def again(index: int, task: ImageTask) -> ImagePart | OtherModel:
            known = replace(task, parsed=entities.result(), timeout_s=run.left_s)
            return await self._ask(run, run.request.images[index], files[index], known, entities)

        return again

    async def _ask(
        self,
        run: Run,
        image: RequestImage,
        file: LoadedImage,
        task: ImageTask,
        entities: asyncio.Task[ParsedPrompt],
    ) -> ImagePart | OtherModel:
        """Have one image segmented, and emit its event after that of the entities."""

        async def known() -> ParsedPrompt:
            return await asyncio.shield(entities)

        answer: SegmentedImage | None = None
        try:
            outcome = await self._stages.segmenter.segment(task, known)
            if isinstance(outcome, OtherModel):
                return outcome
            answer = outcome
            found = documents.unpack_masks(outcome.document)
        except InternalError as error:
            # The other images' results are not lost; if there are none, the request fails as a whole.
            if len(run.request.images) == 1:
                raise error.at(image.field) from None
            found = documents.failed_image_document((file.header.width, file.header.height), error.at(image.field))
            if run.request.options.overlays:
                found["overlay"] = None
        except GensegError as error:
            raise error.at(image.field) from None
        run.timings_ms["segment"] = since_ms(run.segmenting)
        document: ImageDict = {"path": image.path, **found}
        await asyncio.shield(entities)  # the entities event comes first
        run.emit({"event": "image", "role": image.role, "index": image.index, "image": document})
        return ImagePart(document, task, answer)

    async def _merge(self, run: Run, parsed: ParsedPrompt, parts: Sequence[ImagePart]) -> ResultDict:
        request = run.request
        answers = [part.answer for part in parts if part.answer is not None]
        failure = parts[0].document["error"]
        if not answers and failure is not None:
            raise InternalError(failure["message"], failure["field"])
        # All answers come from one model, so what one cannot read none can.
        request.refuse_entities(answers[0].unreadable)
        shown = parsed.without(answers[0].unreadable)
        # In a thread: many objects that resemble each other take a second.
        verdict = await asyncio.to_thread(verdict_of, request, shown, parts) if request.options.verdict else None
        if verdict is not None and request.options.overlays:
            parts = await with_marks(self._stages.segmenter, request, parts, verdict, run.left_s)
        run.timings_ms["total"] = since_ms(run.started)
        with_roles = [*zip(request.images, (part.document for part in parts), strict=True)]
        return documents.result_document(
            prompt=request.prompt,
            entities=shown.entities,
            contextual_images=[document for image, document in with_roles if image.role == "contextual"],
            generated_image=next((document for image, document in with_roles if image.role == "generated"), None),
            verdict=verdict,
            meta=self._meta(run, shown, answers[0].stamp.name),
        )

    def _meta(self, run: Run, shown: ParsedPrompt, segmenter: str) -> MetaDict:
        options = run.request.options
        return {
            "request_id": run.request_id,
            "models": {"text_parser": shown.model or self._models["text_parser"], "segmentation": segmenter},
            "threshold": options.threshold,
            "mask_threshold": options.mask_threshold,
            "thresholds": options.thresholds_in_force(shown.entities),
            "unused_thresholds": options.unused_thresholds(shown.entities),
            "dropped": shown.dropped_document(),
            "timings_ms": {**run.timings_ms},
        }


def since_ms(moment: float) -> float:
    """Return the milliseconds since a moment of time.monotonic's clock."""
    return round((time.monotonic() - moment) * 1000, 3)


def _end_of(work: asyncio.Task[None]) -> BaseException:
    """Return what ended the work. Work that ended well has emitted its result, after which no event is read."""
    if work.cancelled():
        return asyncio.CancelledError()
    error = work.exception()
    # A group holds the error that came first, and what came of cancelling the rest.
    return error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error or asyncio.CancelledError()
