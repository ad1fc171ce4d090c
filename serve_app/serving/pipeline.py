"""Run a request: parse the prompt and load the images at the same time, segment all images, merge the results.

This module imports neither Ray nor HTTP. The parser, the segmenter and the fetcher are passed in; tests pass fakes.
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
    """The state of a request in progress; only the times change.

    Attributes:
        request: the checked request.
        limits: the limits in force when the request began.
        request_id: for the logs and for fairness between requests.
        started: when the request began, by time.monotonic.
        emit: sends an event to the caller.
        segmenting: when the first image went to the segmenter, by time.monotonic.
        timings_ms: durations for `meta`, in milliseconds.
    """

    request: CheckedRequest
    limits: LimitsConfig
    request_id: str
    started: float
    emit: Callable[[EventDict], None]
    segmenting: float = 0.0
    timings_ms: TimingsDict = field(default_factory=lambda: TimingsDict(parse=0.0, segment=0.0, total=0.0))

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; at least 0.001, so that the stage that is called reports the timeout itself."""
        return max(0.001, self.started + self.request.timeout_s - time.monotonic())


class Pipeline:
    """Runs requests through the stages.

    Args:
        stages: the parts that the pipeline calls.
        models: the configured names; `meta` has this parser's name if no prompt was parsed.
    """

    def __init__(self, stages: Stages, models: ModelsDict) -> None:
        self._stages = stages
        self._models = models

    async def stream(
        self, request: SegmentRequest, config: AppConfig, request_id: str
    ) -> AsyncGenerator[EventDict, None]:
        """Run a request and yield an event as each part finishes.

        Args:
            request: the parsed request.
            config: the limits, and defaults for options that the request does not set.
            request_id: for the logs and for fairness between requests.

        Yields:
            An `entities` event, an `image` event as each image finishes, and last a `result` event.

        Raises:
            GensegError: the request as a whole failed; no further event follows.
            CancelledError: the caller was cancelled, or Ray cancelled a call because the client disconnected.
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
                    raise DeadlineExceeded(f"the request did not finish within {checked.timeout_s:g} s") from None
                if isinstance(event, BaseException):
                    raise event
                yield event
                if event["event"] == "result":
                    return
        finally:
            work.cancel()
            await asyncio.wait([work])  # unlike `await work`, it does not raise the cancellation of `work`

    async def _work(self, run: Run) -> None:
        """Do the work of a request and emit its events.

        Raises:
            BaseExceptionGroup: the work failed; the error that came first is the group's first.
        """
        request = run.request
        parse: ParseHandle | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                loads = [tasks.create_task(load(image, run.limits, self._stages.fetch)) for image in request.images]
                if request.entities is not None:
                    request.refuse_entities(await self._unreadable(run, request.entities))
                # Images in the request's body are checked before parsing starts. Images from URLs take longer, so they
                # load during parsing.
                for image, loading in zip(request.images, loads, strict=True):
                    if image.source.url is None:
                        await loading
                if request.entities is None:
                    parse = self._start_parse(run)
                prompt = parse or await read_given(request)
                entities = tasks.create_task(self._entities(run, prompt, loads))
                # All images are checked before the first is segmented, so that a bad one costs no model time.
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
        """Emit the `entities` event; return all entities, also those that the segmenter cannot read."""
        if isinstance(prompt, ParsedPrompt):
            parsed = shown = prompt
        else:
            started = time.monotonic()
            parsed = await prompt.result()
            run.timings_ms["parse"] = since_ms(started)
            shown = parsed.without(await self._unreadable(run, parsed.entities))
        # The first event fixes the status of a stream as 200, so all images must be checked before it.
        await asyncio.gather(*loads)
        run.emit({"event": "entities", **shown.document()})
        return parsed

    async def _unreadable(self, run: Run, entities: Sequence[str]) -> Mapping[str, str]:
        try:
            return await self._stages.segmenter.unreadable(entities, run.request_id, run.left_s)
        except GensegError:
            return {}  # the segmenter's answers about the images will report unreadable entities or the failure

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
        assert isinstance(part, ImagePart), "a replica refused a task that any version may do"
        return part

    def _again(self, run: Run, files: Sequence[LoadedImage], entities: asyncio.Task[ParsedPrompt]) -> Again:
        """Make a function that segments an image again; its `image` event replaces the image's earlier one."""

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
        """Call the segmenter for one image, and emit its event after the `entities` event."""

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
            # Other images keep their results; a request with a single image fails as a whole.
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
        # All answers come from one model, so the unreadable entities are the same in each.
        request.refuse_entities(answers[0].unreadable)
        shown = parsed.without(answers[0].unreadable)
        # In a thread, because a verdict with many similar objects takes a second.
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
    """Return the milliseconds since a time of time.monotonic."""
    return round((time.monotonic() - moment) * 1000, 3)


def _end_of(work: asyncio.Task[None]) -> BaseException:
    """Return the error that ended the work. If there is none, the return value is never read: `result` came before."""
    if work.cancelled():
        return asyncio.CancelledError()
    error = work.exception()
    # The group's first error came first; the others follow from cancelling the remaining tasks.
    return error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error or asyncio.CancelledError()
