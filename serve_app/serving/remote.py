"""Calls of the two deployments: made again where a replica dies, cancelled where nobody waits for them.

Inference is idempotent, so a call whose replica died is simply made again.
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

from serve_app.errors import DeadlineExceeded, GensegError, InternalError, Overloaded, ReplicaDied
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
"""Smaller files travel inside the call; for larger ones one copy in the object store is cheaper."""
READABLE_BYTES = 1024 * 1024
"""Of phrases that the segmenter is known to read: some ten thousand, so that few requests ask about theirs."""
CHECK_TIMEOUT_S = 5.0
"""Longest wait for an answer about phrases: it takes a millisecond, unless the segmenter is busy or gone."""


class Caller:
    """Calls a deployment's methods.

    Args:
        handle: of the deployment.
        stage: its name in metrics and messages.
        max_retries: further tries after a replica died under the call.
        on_retry: called with the stage for every further try.
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
            CancelledError: the caller was cancelled, or the call was.
            ReplicaDied: every try lost its replica.
            Overloaded: the deployment's queues are full.
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
                logger.warning("a replica of the %s died under a call (try %d)", self._stage, attempt + 1)
            if attempt < self.max_retries:
                self._on_retry(self._stage)
                response = start(self._handle)
        raise ReplicaDied(f"the {self._stage} died {self.max_retries + 1} times on this request")

    def _failure(self, end: CallEnd, error: Exception) -> BaseException:
        if end is CallEnd.CANCELLED:
            return asyncio.CancelledError()
        if end in {CallEnd.FULL, CallEnd.UNAVAILABLE}:
            refusal = Overloaded(f"the {self._stage}'s queues are full")
            refusal.retry_after_s = self.retry_after_s
            return refusal
        logger.warning("a call of the %s failed: %s", self._stage, type(error).__name__)
        return InternalError(f"the {self._stage} failed")


async def _answer(response: Any) -> Any:
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise


class ParserCalls:
    """Starts parses on the ParserDeployment."""

    def __init__(self, handle: DeploymentHandle[Any], max_retries: int, on_retry: Callable[[str], None]) -> None:
        # By reference: the answer's place in the object store can be handed on before the answer is there.
        self.caller = Caller(handle.options(_by_reference=True), "parser", max_retries, on_retry)

    def start(
        self, prompt: str, max_entities: int, request_id: str, timeout_s: float, contextual_images: int | None = None
    ) -> ParseCall:
        """Start reading a prompt; see ParserDeployment.parse for the arguments and ParseCall for the answer."""
        arguments = (prompt, max_entities, request_id, timeout_s, contextual_images)
        return ParseCall(self.caller, lambda handle: handle.parse.remote(*arguments))

    async def model_name(self) -> str:
        """Ask the deployment for its model; an answer means that it is ready."""
        return str(await self.caller.call(lambda handle: handle.model_name.remote()))


class ParseCall:
    """A parse under way: its answer, and a reference to it for those who need it later.

    Args:
        caller: of the parser.
        start: makes the call.
    """

    def __init__(self, caller: Caller, start: Callable[[DeploymentHandle[Any]], Any]) -> None:
        self._first: Any = None

        def once_then_again(handle: DeploymentHandle[Any]) -> Any:
            response = start(handle)
            if self._first is None:
                self._first = response
            return response

        self._task = asyncio.ensure_future(caller.call(once_then_again))

    async def reference(self) -> Any:
        """What a segmenter may wait for: the answer if it is there, else a reference to it."""
        if self._task.done():
            return await self.result()
        # The task has to run up to its first wait before there is a response.
        while self._first is None and not self._task.done():
            await asyncio.sleep(0)
        if self._task.done() or not hasattr(self._first, "_to_object_ref"):
            return await self.result()
        try:
            return await self._first._to_object_ref()
        except RAY_ERRORS:
            return await self.result()  # raises what the call came to

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
        """Nobody waits for it any more."""
        self._task.cancel()


class SegmenterCalls:
    """Segments images on the SegmenterDeployment."""

    def __init__(self, handle: DeploymentHandle[Any], max_retries: int, on_retry: Callable[[str], None]) -> None:
        self.caller = Caller(handle, "segmenter", max_retries, on_retry)
        # What one version of the model can read another may not. Then the answer about the image says so.
        self._readable: ByteLru[bool] = ByteLru(READABLE_BYTES, lambda phrase, _: 200 + sys.getsizeof(phrase))

    async def unreadable(self, phrases: Sequence[str], request_id: str, timeout_s: float) -> dict[str, str]:
        """Find the phrases that the segmenter cannot read.

        Args:
            phrases: distinct entities.
            request_id: whose question it is.
            timeout_s: seconds left until the request's deadline.

        Returns:
            The reason of each that cannot be read. Phrases that it has read before are not asked about.

        Raises:
            GensegError: nobody could tell, within CHECK_TIMEOUT_S at most.
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
            raise DeadlineExceeded(f"the segmenter did not say within {patience_s:g} s what it can read") from None
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
            task: its work.
            again: the parser's answer itself, for when a reference in the task leads nowhere.

        Raises:
            GensegError: what the segmenter answered, or what happened to the call.
        """
        outcome = await self._call(task)
        if isinstance(outcome, InputsLost):
            outcome = await self._call(replace(task, parsed=await again()))
        if isinstance(outcome, InputsLost):
            raise InternalError("an image was lost on its way to the segmenter")
        if isinstance(outcome, GensegError):
            raise outcome
        return outcome

    async def overlay(self, task: OverlayTask) -> str:
        """Draw an overlay.

        Returns:
            A data URI.

        Raises:
            GensegError: what the segmenter answered, or what happened to the call.
        """
        answer: str | GensegError | InputsLost = await self.caller.call(lambda handle: handle.overlay.remote(task))
        if isinstance(answer, InputsLost):
            raise InternalError("an image was lost on its way to the segmenter")
        if isinstance(answer, GensegError):
            raise answer
        return answer

    async def _call(self, task: ImageTask) -> ImageOutcome:
        outcome: ImageOutcome = await self.caller.call(lambda handle: handle.segment.remote(task))
        return outcome

    async def model_name(self) -> str:
        """Ask the deployment for its model; an answer means that it is ready."""
        return str(await self.caller.call(lambda handle: handle.model_name.remote()))


async def stored(data: bytes) -> Any:
    """Put an image where every replica finds it: small ones stay as they are, others go to the object store once."""
    if len(data) <= INLINE_BYTES:
        return data
    return await asyncio.get_running_loop().run_in_executor(None, ray.put, data)
