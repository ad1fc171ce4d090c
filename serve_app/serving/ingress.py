"""Ingress: the deployment that receives all requests, over HTTP and handles, and runs them through the pipeline."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, aclosing, contextmanager, suppress
from typing import Any

from ray.serve.handle import DeploymentHandle

from serve_app.config.auth import accepted_tokens
from serve_app.config.schema import AppConfig
from serve_app.config.user_config import IngressSettings, UserConfig
from serve_app.errors import DeadlineExceeded, DeploymentUnavailable, GensegError, Overloaded, TooManyRequests
from serve_app.schemas.dicts import EntitiesDict, ModelsDict, ResultDict, error_body
from serve_app.schemas.events import EventDict
from serve_app.schemas.requests import SegmentBody, SegmentRequest, parse_request
from serve_app.serving.checked_request import check_prompt
from serve_app.serving.documents import result_of
from serve_app.serving.fetch import ImageFetcher
from serve_app.serving.http.middleware import with_disconnect_message
from serve_app.serving.http.routes import make_app
from serve_app.serving.pipeline import Pipeline
from serve_app.serving.ray_errors import RAY_ERRORS
from serve_app.serving.remote import ParserCalls, SegmenterCalls, store_if_large
from serve_app.serving.replica.heap import give_back_free_memory, give_back_large_buffers
from serve_app.serving.replica.metrics import Metrics
from serve_app.serving.replica.stage import Stage
from serve_app.serving.stages import Stages

READY_TIMEOUT_S = 5.0
PYTHON_THREADS = 2

logger = logging.getLogger("ray.serve")


class Ingress:
    """Receives, admits and answers requests, over HTTP and through handles.

    Args:
        config: the whole configuration.
        parser: handle of the ParserDeployment.
        segmenter: handle of the SegmenterDeployment.

    Attributes:
        config: the configuration in force; `reconfigure` replaces it.
    """

    def __init__(self, config: AppConfig, parser: DeploymentHandle[Any], segmenter: DeploymentHandle[Any]) -> None:
        give_back_large_buffers()
        give_back_free_memory()
        logger.addFilter(NoTracebackOfRefusals())
        # The threads of `asyncio.to_thread`. JSON and base64 hold Python's lock, so more threads are not faster, but
        # delay the event loop. Measured with 4 bodies of 60 MB at the same time: with PYTHON_THREADS threads, /healthz
        # answered after 1.2 s instead of 2.4 s.
        with suppress(RuntimeError):  # there is no event loop
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(PYTHON_THREADS, "ingress"))
        self._args = config
        self.config = config
        self._user_config = UserConfig("Ingress", IngressSettings)
        self._metrics = Metrics()
        retries = config.serving.max_retries
        self._parser = ParserCalls(parser, retries, self._metrics.retried)
        self._segmenter = SegmenterCalls(segmenter, retries, self._metrics.retried)
        self._fetcher = ImageFetcher(config.fetch, config.limits.max_image_bytes)
        self._name = uuid.uuid4().hex
        self._running = 0
        self._stopping = False
        self._metrics.watch_queue("requests", lambda: self._running)
        self._tokens = accepted_tokens(config.auth, os.environ)
        stages = Stages(self._parser, self._segmenter, self._fetch, store_if_large, self._metrics.stage)
        names: ModelsDict = {
            "text_parser": config.models.text_parser.model_name,
            "segmentation": config.models.segmentation.model_name,
        }
        self._pipeline = Pipeline(stages, names)
        self._set_callers(config)

    def __serve_build_asgi_app__(self) -> Any:
        # Serve's proxy already echoes the request id. If the client disconnects while it sends a body, Ray raises.
        return with_disconnect_message(make_app(self, echo_request_id=False), RAY_ERRORS)

    def reconfigure(self, user_config: object) -> None:
        """Apply new thresholds, limits, … without a restart; UserConfig describes what happens to wrong ones."""
        self._user_config.take(user_config, self._apply)

    def _apply(self, settings: IngressSettings) -> None:
        config = settings.apply_to(self._args)
        self._tokens = accepted_tokens(config.auth, os.environ)
        changed = (config.fetch, config.limits.max_image_bytes) != (
            self.config.fetch,
            self.config.limits.max_image_bytes,
        )
        if changed:  # otherwise the fetcher and its open connections stay
            self._fetcher.retire()
            self._fetcher = ImageFetcher(config.fetch, config.limits.max_image_bytes)
        self.config = config
        self._set_callers(config)

    def _set_callers(self, config: AppConfig) -> None:
        for caller in (self._parser.caller, self._segmenter.caller):
            caller.max_retries = config.serving.max_retries
            caller.retry_after_s = config.serving.retry_after_s

    async def segment(self, request: SegmentRequest | SegmentBody) -> ResultDict:
        """Run a request from a handle.

        Args:
            request: a SegmentRequest, or a dict with the fields of the JSON body.

        Returns:
            The result document.

        Raises:
            GensegError: the same errors as over HTTP.
        """
        with _one_line() as request_id, self.admitted():
            return await result_of(self.stream(parse_request(request), request_id))

    async def segment_stream(self, request: SegmentRequest | SegmentBody) -> AsyncGenerator[EventDict, None]:
        """Run a request from a handle (`handle.options(stream=True)`) and yield an event as each part finishes.

        Args:
            request: as in `segment`.

        Yields:
            The events of the NDJSON stream. The last one is a `result` or an `error` event.
        """
        try:
            with _one_line() as request_id, self.admitted():
                async with aclosing(self.stream(parse_request(request), request_id)) as events:
                    async for event in events:
                        yield event
        except GensegError as error:
            yield {"event": "error", "error": error_body(error)}

    def stream(self, request: SegmentRequest, request_id: str) -> AsyncGenerator[EventDict, None]:
        """Run an admitted request; yields and raises the same as `Pipeline.stream`."""
        return self._pipeline.stream(request, self.config, request_id)

    async def drain(self) -> tuple[str, int]:
        """Refuse new requests from now on, because the service is about to stop.

        Returns:
            A unique name of this replica, and how many requests it still has in progress.
        """
        self._stopping = True
        return self._name, self._running

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Admit a request and count it while the block runs.

        The block reads the body, runs the request and sends the stream.

        Raises:
            TooManyRequests: the ingress already handles as many requests as it admits.
            Overloaded: the service is stopping.
        """
        if self._stopping:
            raise Overloaded("the service is stopping")
        limit = self.config.serving.max_concurrent_requests
        if self._running >= limit:
            requests = "1 request" if limit == 1 else f"{limit} requests"
            refusal = TooManyRequests(f"the service is busy with {requests}, its limit; try again later")
            refusal.retry_after_s = self.config.serving.retry_after_s
            raise refusal
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    async def entities(self, prompt: str, request_id: str) -> EntitiesDict:
        """Parse a prompt for an admitted request.

        Raises:
            GensegError: the prompt is empty, too long, or could not be parsed.
        """
        limits, timeout_s = self.config.limits, self.config.serving.timeout_s
        check_prompt(prompt, limits)
        call = self._parser.start(prompt, limits.max_entities, request_id, timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                parsed = await call.result()
                return parsed.without(await self._unreadable(parsed.entities, request_id)).document()
        except TimeoutError:
            raise DeadlineExceeded(f"the prompt was not parsed within {timeout_s:g} s") from None
        finally:
            call.cancel()

    async def _unreadable(self, entities: Sequence[str], request_id: str) -> Mapping[str, str]:
        try:
            return await self._segmenter.unreadable(entities, request_id, self.config.serving.timeout_s)
        except GensegError:
            return {}  # parsing a prompt must not fail because the segmenter does

    async def missing(self) -> list[str]:
        """Return what is not ready: "text_parser", "segmentation", or "ingress" while it stops; empty if all are."""
        if self._stopping:
            return ["ingress"]
        names = ("text_parser", "segmentation")

        async def in_time(call: Coroutine[Any, Any, str]) -> str:
            async with asyncio.timeout(READY_TIMEOUT_S):
                return await call

        calls = (self._parser.model_name(), self._segmenter.model_name())
        answers = await asyncio.gather(*map(in_time, calls), return_exceptions=True)
        return [name for name, answer in zip(names, answers, strict=True) if not _shows_readiness(answer)]

    def tokens(self) -> tuple[str, ...]:
        """Return the accepted bearer tokens; empty for no authentication."""
        return self._tokens

    def answered(self, route: str, status: int, seconds: float, code: str | None) -> None:
        """Count an answer and its time; `code` is the error's, None without an error."""
        self._metrics.answered(route, status, seconds, code)

    def stage(self, name: str) -> AbstractContextManager[Stage]:
        """Measure a block as a stage of a request's work."""
        return self._metrics.stage(name)

    async def _fetch(self, url: str) -> bytes:
        with self._metrics.stage("fetch") as fetch:
            data = await self._fetcher.fetch(url)
            fetch.set(bytes=len(data))
            return data


def _shows_readiness(answer: str | BaseException) -> bool:
    """Return whether a deployment's answer to `model_name` shows that it is ready. One with full queues is ready."""
    if isinstance(answer, DeploymentUnavailable):
        return False
    return isinstance(answer, str | Overloaded)


@contextmanager
def _one_line() -> Iterator[str]:
    """Log a request from a handle in one line, as the middleware does for HTTP. Yields a new request id."""
    request_id, status, started = uuid.uuid4().hex, 200, time.monotonic()
    try:
        yield request_id
    except GensegError as error:
        status = error.status
        raise
    except BaseException:
        status = 500
        raise
    finally:
        logger.info("request %s HANDLE segment %d: %.0f ms", request_id, status, 1000 * (time.monotonic() - started))


class NoTracebackOfRefusals(logging.Filter):
    """Drops Serve's traceback of a GensegError that is not internal; the request's own log line suffices."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to keep a log record."""
        error = record.exc_info[1] if record.exc_info else None
        return not (isinstance(error, GensegError) and error.status != GensegError.status)
