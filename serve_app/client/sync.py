"""The client for threads. It sends and receives; `exchange` decides about retries and errors."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from os import PathLike
from typing import TYPE_CHECKING, Self, Unpack

import httpx

from serve_app.client.address import DEFAULT_URL, LIMITS, LOOPBACK, BaseClient
from serve_app.client.answers import Event, EventReader, read_document
from serve_app.client.exchange import Answer, Call, Send, Wait, exchange, transport_error
from serve_app.client.failures import ConnectionFailed
from serve_app.client.requests import SegmentOptions, entities_call, segment_call
from serve_app.client.results import Result
from serve_app.errors import DeadlineExceeded
from serve_app.schemas.documents import EntitiesDocument, ResultDocument
from serve_app.schemas.requests import ImageInput

if TYPE_CHECKING:
    from PIL.Image import Image


class Client(BaseClient):
    """Client of the HTTP service. Close it, or use it as a context manager. Threads may share it.

    Args:
        base_url: the service's http(s) address, with a path if a proxy adds one.
        token: the bearer token, if the service asks for one.
        timeout_s: how long a call may take with its retries, in seconds; also sent to the server. A stream waits this
            long for each of its lines.
        max_retries: how often a call is sent again after a failed connection or an "overloaded" answer. The answer's
            Retry-After is waited for, if `timeout_s` allows it. After other errors no call is sent again.
        transport: used instead of HTTPX's own, for tests and for applications in the same process.

    Raises:
        ConfigError: an argument is not usable.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        token: str | None = None,
        timeout_s: float = 60.0,
        max_retries: int = 2,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(base_url, token, timeout_s, max_retries)
        self._http = httpx.Client(
            headers=self._headers,
            auth=self._auth,
            verify=self._trust(),
            limits=LIMITS,
            mounts=dict.fromkeys(LOOPBACK),
            transport=transport,
        )

    def segment(
        self,
        prompt: str = "",
        contextual: Sequence[ImageInput | bytes | str | PathLike[str] | Image] = (),
        generated: ImageInput | bytes | str | PathLike[str] | Image | None = None,
        **options: Unpack[SegmentOptions],
    ) -> Result:
        """Run one job.

        Args:
            prompt: the image-generation prompt; may be empty where `entities` are given.
            contextual: the contextual images, in order: paths, http(s) URLs (the server fetches them), bytes of image
                files, Pillow images or ImageInputs.
            generated: the generated image, likewise.
            options: further fields of the request, and `request_id`; see SegmentOptions.

        Raises:
            GensegError: what went wrong, by the error's class; its message is one line.
            OSError: a file cannot be read.
        """
        url = self._url + "/v1/segment"
        answer = self._carry(segment_call(url, prompt, contextual, generated, options, timeout_s=self._timeout_s))
        return Result(read_document(ResultDocument, answer.content, url))

    def segment_stream(
        self,
        prompt: str = "",
        contextual: Sequence[ImageInput | bytes | str | PathLike[str] | Image] = (),
        generated: ImageInput | bytes | str | PathLike[str] | Image | None = None,
        **options: Unpack[SegmentOptions],
    ) -> Generator[Event, None, None]:
        """Run one job and yield each part of the answer when it is ready.

        Takes the same arguments as `segment`, and raises the same errors while it is iterated. Closing the iterator
        early closes the connection, and the server stops the work.

        Yields:
            An EntitiesEvent, an ImageEvent as each image finishes (in any order), and last a ResultEvent.
        """
        url = self._url + "/v1/segment"
        call = segment_call(url, prompt, contextual, generated, options, timeout_s=self._timeout_s, stream=True)
        response = self._carry(call).live
        assert response is not None
        with closing(response):
            reader = EventReader(url)
            try:
                for piece in response.iter_bytes():
                    yield from reader.feed(piece)
            except (httpx.HTTPError, httpx.StreamError) as cause:
                raise transport_error(cause, call) from cause
            yield from reader.end()

    def entities(self, prompt: str, *, request_id: str | None = None) -> EntitiesDocument:
        """Find the entities of a prompt, and those that the entity filter drops.

        Raises:
            GensegError: what went wrong, by the error's class.
        """
        url = self._url + "/v1/entities"
        answer = self._carry(entities_call(url, prompt, timeout_s=self._timeout_s, request_id=request_id))
        return read_document(EntitiesDocument, answer.content, url)

    def healthy(self) -> bool:
        """Tell whether the service runs; False if it does not answer within 5 s.

        Raises:
            GensegError: the answer is not this service's.
        """
        return self._holds("/healthz")

    def ready(self) -> bool:
        """Tell whether both models answer, so that jobs can be sent; False if the service does not answer within 5 s.

        Raises:
            GensegError: the answer is not this service's, or the token is missing or wrong.
        """
        return self._holds("/readyz")

    def close(self) -> None:
        """Close the connections. The client cannot be used afterwards."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _holds(self, path: str) -> bool:
        try:
            return self._carry(self._probe(path), max_retries=0).status == 200
        except (ConnectionFailed, DeadlineExceeded):
            return False

    def _carry(self, call: Call, max_retries: int | None = None) -> Answer:
        steps = exchange(call, self._max_retries if max_retries is None else max_retries)
        try:
            step = next(steps)
            while True:
                try:
                    answer = self._step(step)
                except (httpx.HTTPError, httpx.StreamError) as cause:
                    step = steps.throw(cause)
                else:
                    step = steps.send(answer)
        except StopIteration as stop:
            final: Answer = stop.value
            return final

    def _step(self, step: Send | Wait) -> Answer | None:
        if isinstance(step, Wait):
            time.sleep(step.seconds)
            return None
        return self._send(step)

    def _send(self, send: Send) -> Answer:
        end = time.monotonic() + send.wait_s
        response = self._http.send(self._http.build_request(**send.arguments), stream=True)
        if send.call.stream and response.status_code == 200:
            return Answer(200, response.headers, b"", response)
        pieces = []
        with closing(response):
            for piece in response.iter_bytes():
                pieces.append(piece)
                # HTTPX limits the silence between two pieces; this limits their sum.
                if time.monotonic() > end:
                    raise httpx.ReadTimeout("the answer comes too slowly")
        return Answer(response.status_code, response.headers, b"".join(pieces))
