"""Call the parser and the segmenter: repeat a call if its replica dies, and cancel it if the caller is cancelled.

Repeating is safe, because inference is idempotent.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.serve.handle import DeploymentHandle

from serve_app.errors import (
    DeadlineExceeded,
    DeploymentUnavailable,
    GensegError,
    InternalError,
    Overloaded,
    ReplicaDied,
)
from serve_app.serving.messages import (
    ImageOutcome,
    ImageTask,
    InputsLost,
    OtherModel,
    OverlayTask,
    ParsedPrompt,
    SegmentedImage,
)
from serve_app.serving.ray_errors import RAY_ERRORS, CallEnd, call_end
from serve_app.serving.replica.cache import ByteLru

logger = logging.getLogger("ray.serve")

INLINE_BYTES = 96 * 1024
"""Files up to this size are sent inside the call; for larger ones one copy in the object store is cheaper."""
READABLE_BYTES = 1024 * 1024
"""Size of the cache of phrases that the segmenter can read because they are short enough for its tokenizer. It holds
about 4,000 phrases, so few requests must call `check_phrases`."""
CHECK_TIMEOUT_S = 5.0
"""Longest wait for the check of phrases, which takes a millisecond unless the segmenter is busy or gone."""
IMAGE_LOST = "the cluster lost the image; send the request again"


class Caller:
    """Calls the methods of a deployment.

    Args:
        handle: the deployment's handle.
        stage: the deployment's name in metrics and messages.
        max_retries: how many times a call is repeated, at most, if its replica dies.
        on_retry: called with the stage before each repetition.
    """

    def __init__(
        self, handle: DeploymentHandle[Any], stage: str, max_retries: int, on_retry: Callable[[str], None]
    ) -> None:
        self._handle = handle
        self._stage = stage
        self.max_retries = max_retries
        self.retry_after_s = Overloaded.retry_after_s
        self._on_retry = on_retry

    async def call(self, start: Callable[[DeploymentHandle[Any]], Any]) -> Any:
        """Make a call and wait for its answer.

        Args:
            start: makes the call on the handle and returns its response.

        Raises:
            CancelledError: the caller or the call was cancelled.
            ReplicaDied: the replica died in every attempt.
            Overloaded: the deployment's queues are full.
            DeploymentUnavailable: the deployment accepts no calls at the moment.
            InternalError: the call failed otherwise.
        """
        response = start(self._handle)
        for attempt in range(self.max_retries + 1):
            try:
                return await _answer(response)
            except RAY_ERRORS as error:
                end = call_end(error)
                if end is not CallEnd.DIED:
                    raise self._failure(end, error) from None
                logger.warning("a replica of the %s died during a call (attempt %d)", self._stage, attempt + 1)
            if attempt < self.max_retries:
                self._on_retry(self._stage)
                response = start(self._handle)
        raise ReplicaDied(f"a replica of the {self._stage} died in every attempt (attempts: {self.max_retries + 1})")

    def _failure(self, end: CallEnd, error: Exception) -> BaseException:
        if end is CallEnd.CANCELLED:
            return asyncio.CancelledError()
        if end in {CallEnd.FULL, CallEnd.UNAVAILABLE}:
            refusal = Overloaded(f"the {self._stage}'s queues are full")
            if end is CallEnd.UNAVAILABLE:
                refusal = DeploymentUnavailable(f"the {self._stage} is not available; try again later")
            refusal.retry_after_s = self.retry_after_s
            return refusal
        logger.warning("a call to the %s failed: %s", self._stage, type(error).__name__)
        return InternalError(f"the {self._stage} failed")


async def _answer(response: Any) -> Any:
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise


class ParserCalls:
    """Calls the ParserDeployment.

    Args:
        handle: the deployment's handle.
        max_retries: see Caller.
        on_retry: see Caller.
    """

    def __init__(self, handle: DeploymentHandle[Any], max_retries: int, on_retry: Callable[[str], None]) -> None:
        # `_by_reference`: Ray can then turn the response into an object reference before the answer exists, and a
        # segmenter can wait for that reference.
        self.caller = Caller(handle.options(_by_reference=True), "parser", max_retries, on_retry)

    def start(
        self, prompt: str, max_entities: int, request_id: str, timeout_s: float, contextual_images: int | None = None
    ) -> ParseCall:
        """Start parsing a prompt; see ParserDeployment.parse for the arguments, and ParseCall for the returned call."""
        arguments = (prompt, max_entities, request_id, timeout_s, contextual_images)
        return ParseCall(self.caller, lambda handle: handle.parse.remote(*arguments))

    async def model_name(self) -> str:
        """Return the name of the deployment's model. An answer means that the model is ready."""
        return str(await self.caller.call(lambda handle: handle.model_name.remote()))


class ParseCall:
    """A parser call in progress; returns its answer, or an object reference to the answer.

    Args:
        caller: calls the parser.
        start: makes the call on a handle.
    """

    def __init__(self, caller: Caller, start: Callable[[DeploymentHandle[Any]], Any]) -> None:
        self._first: Any = None

        def start_and_keep_first(handle: DeploymentHandle[Any]) -> Any:
            response = start(handle)
            if self._first is None:
                self._first = response
            return response

        self._task = asyncio.ensure_future(caller.call(start_and_keep_first))

    async def reference(self) -> Any:
        """Return the answer if it has arrived; otherwise an object reference, for which a segmenter can wait.

        Raises:
            GensegError: the prompt could not be parsed.
        """
        if self._task.done():
            return await self.result()
        # The task makes the call, and sets `_first`, only when it first runs.
        while self._first is None and not self._task.done():
            await asyncio.sleep(0)
        if self._task.done() or not hasattr(self._first, "_to_object_ref"):
            return await self.result()
        try:
            return await self._first._to_object_ref()
        except RAY_ERRORS:
            return await self.result()  # the task repeats the call if its replica died; otherwise this raises the error

    async def result(self) -> ParsedPrompt:
        """Wait for the answer.

        Raises:
            GensegError: the prompt could not be parsed.
        """
        answer = await asyncio.shield(self._task)
        if isinstance(answer, GensegError):
            raise answer
        assert isinstance(answer, ParsedPrompt)
        return answer

    def cancel(self) -> None:
        """Cancel the call, because its answer is no longer needed."""
        self._task.cancel()


class SegmenterCalls:
    """Calls the SegmenterDeployment.

    Args:
        handle: the deployment's handle.
        max_retries: see Caller.
        on_retry: see Caller.
    """

    def __init__(self, handle: DeploymentHandle[Any], max_retries: int, on_retry: Callable[[str], None]) -> None:
        self.caller = Caller(handle, "segmenter", max_retries, on_retry)
        # After a change of model, one of these phrases may be unreadable. `SegmentedImage.unreadable` then names it.
        self._readable: ByteLru[bool] = ByteLru(READABLE_BYTES, lambda phrase, _: 200 + sys.getsizeof(phrase))

    async def unreadable(self, phrases: Sequence[str], request_id: str, timeout_s: float) -> dict[str, str]:
        """Find the phrases that the segmenter cannot read.

        Args:
            phrases: distinct entities.
            request_id: the request that asks.
            timeout_s: longest wait in seconds.

        Returns:
            The reason for each phrase that cannot be read. Phrases known to be readable are not checked again.

        Raises:
            GensegError: the check failed, or took longer than `timeout_s` or CHECK_TIMEOUT_S.
        """
        unknown = [phrase for phrase in phrases if not self._readable.get(phrase)]
        if not unknown:
            return {}
        patience_s = min(timeout_s, CHECK_TIMEOUT_S)
        try:
            async with asyncio.timeout(patience_s):
                answer = await self.caller.call(
                    lambda handle: handle.check_phrases.remote(unknown, request_id, patience_s)
                )
        except TimeoutError:
            raise DeadlineExceeded(f"the segmenter did not check the entities within {patience_s:g} s") from None
        if isinstance(answer, GensegError):
            raise answer
        for phrase in unknown:
            if phrase not in answer:
                self._readable.put(phrase, True)
        return dict(answer)

    async def segment(
        self, task: ImageTask, again: Callable[[], Coroutine[Any, Any, ParsedPrompt]]
    ) -> SegmentedImage | OtherModel:
        """Segment one image.

        Args:
            task: the image and the entities.
            again: returns the parser's answer itself, for a second call if Ray's object store has lost an input.

        Raises:
            GensegError: the segmenter returned an error, or the call failed.
        """
        outcome = await self._call(task)
        if isinstance(outcome, InputsLost):
            outcome = await self._call(replace(task, parsed=await again()))
        if isinstance(outcome, InputsLost):
            raise InternalError(IMAGE_LOST)
        if isinstance(outcome, GensegError):
            raise outcome
        return outcome

    async def overlay(self, task: OverlayTask) -> str:
        """Draw an overlay.

        Returns:
            A data URI of a JPEG.

        Raises:
            GensegError: the segmenter returned an error, or the call failed.
        """
        answer: str | GensegError | InputsLost = await self.caller.call(lambda handle: handle.overlay.remote(task))
        if isinstance(answer, InputsLost):
            raise InternalError(IMAGE_LOST)
        if isinstance(answer, GensegError):
            raise answer
        return answer

    async def _call(self, task: ImageTask) -> ImageOutcome:
        outcome: ImageOutcome = await self.caller.call(lambda handle: handle.segment.remote(task))
        return outcome

    async def model_name(self) -> str:
        """Return the name of the deployment's model. An answer means that the model is ready."""
        return str(await self.caller.call(lambda handle: handle.model_name.remote()))


async def store_if_large(data: bytes) -> Any:
    """Put a large image file into Ray's object store, so that all calls share one copy; return a small one as it is.

    Args:
        data: the file's bytes.

    Returns:
        An object reference, or the bytes themselves up to INLINE_BYTES.
    """
    if len(data) <= INLINE_BYTES:
        return data
    return await asyncio.get_running_loop().run_in_executor(None, ray.put, data)
