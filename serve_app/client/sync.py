"""The sync client. It sends requests and receives answers; `exchange` decides about retries and errors."""

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
        timeout_s: how long a request may take with its retries, in seconds. The server gets it as the deadline. While a
            stream is read, it limits the wait for the next bytes.
        max_retries: how many times a request is sent again if no connection was made or the answer is `overloaded`.
            The client first waits for the answer's Retry-After, if `timeout_s` allows it. After other errors a request
            is not sent again.
        transport: replaces HTTPX's transport, for tests and for applications in the same process.

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
        """Send one request.

        Args:
            prompt: the prompt of the image generator; may be empty if `entities` are given.
            contextual: the contextual images, in order: paths, http(s) URLs (the server fetches them), bytes of image
                files, Pillow images or ImageInputs.
            generated: the generated image, in the same form.
            options: further fields of the request, and `request_id`; see SegmentOptions.

        Raises:
            GensegError: the request failed. The class says why; the message is one line.
            OSError: a file cannot be read.
        """
        url = self._url + "/v1/segment"
        answer = self._perform(segment_call(url, prompt, contextual, generated, options, timeout_s=self._timeout_s))
        return Result(read_document(ResultDocument, answer.content, url))

    def segment_stream(
        self,
        prompt: str = "",
        contextual: Sequence[ImageInput | bytes | str | PathLike[str] | Image] = (),
        generated: ImageInput | bytes | str | PathLike[str] | Image | None = None,
        **options: Unpack[SegmentOptions],
    ) -> Generator[Event, None, None]:
        """Send one request, and yield each part of the answer when it is ready.

        Takes the same arguments as `segment`, and raises the same errors while it is iterated. If you close the
        iterator early, the connection is closed, and the server stops the work.

        Yields:
            An EntitiesEvent, an ImageEvent as each image finishes (in any order), and last a ResultEvent.
        """
        url = self._url + "/v1/segment"
        call = segment_call(url, prompt, contextual, generated, options, timeout_s=self._timeout_s, stream=True)
        response = self._perform(call).live
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
            GensegError: the request failed. The class says why.
        """
        url = self._url + "/v1/entities"
        answer = self._perform(entities_call(url, prompt, timeout_s=self._timeout_s, request_id=request_id))
        return read_document(EntitiesDocument, answer.content, url)

    def healthy(self) -> bool:
        """Return whether the service runs; False if it does not answer within 5 s.

        Raises:
            GensegError: the answer is not from this service.
        """
        return self._is_ok("/healthz")

    def ready(self) -> bool:
        """Return whether the parser and the segmenter answer; False if the service does not answer within 5 s.

        Raises:
            GensegError: the answer is not from this service, or the token is missing or wrong.
        """
        return self._is_ok("/readyz")

    def close(self) -> None:
        """Close the connections. The client cannot be used afterwards."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _is_ok(self, path: str) -> bool:
        try:
            return self._perform(self._probe(path), max_retries=0).status == 200
        except (ConnectionFailed, DeadlineExceeded):
            return False

    def _perform(self, call: Call, max_retries: int | None = None) -> Answer:
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
                # HTTPX limits only the wait for each piece. This limits the time of the whole answer.
                if time.monotonic() > end:
                    raise httpx.ReadTimeout("the answer comes too slowly")
        return Answer(response.status_code, response.headers, b"".join(pieces))
