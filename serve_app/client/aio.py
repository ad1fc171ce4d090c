"""The client for asyncio. It sends requests and receives answers; `exchange` decides about retries and errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
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


class AsyncClient(BaseClient):
    """Client for asyncio. Its arguments and methods are those of Client.

    Args:
        base_url: see Client.
        token: see Client.
        timeout_s: see Client.
        max_retries: see Client.
        transport: replaces HTTPX's transport, such as `httpx.ASGITransport` for an application in the same process.

    Raises:
        ConfigError: an argument is not usable.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        token: str | None = None,
        timeout_s: float = 60.0,
        max_retries: int = 2,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(base_url, token, timeout_s, max_retries)
        self._http = httpx.AsyncClient(
            headers=self._headers,
            auth=self._auth,
            verify=self._trust(),
            limits=LIMITS,
            mounts=dict.fromkeys(LOOPBACK),
            transport=transport,
        )

    async def segment(
        self,
        prompt: str = "",
        contextual: Sequence[ImageInput | bytes | str | PathLike[str] | Image] = (),
        generated: ImageInput | bytes | str | PathLike[str] | Image | None = None,
        **options: Unpack[SegmentOptions],
    ) -> Result:
        """Send one request; see Client.segment."""
        url = self._url + "/v1/segment"
        call = await self._prepare(prompt, contextual, generated, options)
        return Result(read_document(ResultDocument, (await self._perform(call)).content, url))

    async def segment_stream(
        self,
        prompt: str = "",
        contextual: Sequence[ImageInput | bytes | str | PathLike[str] | Image] = (),
        generated: ImageInput | bytes | str | PathLike[str] | Image | None = None,
        **options: Unpack[SegmentOptions],
    ) -> AsyncGenerator[Event, None]:
        """Send one request, and yield each part of the answer when it is ready; see Client.segment_stream."""
        call = await self._prepare(prompt, contextual, generated, options, stream=True)
        response = (await self._perform(call)).live
        assert response is not None
        async with aclosing(response):
            reader = EventReader(call.url)
            try:
                async for piece in response.aiter_bytes():
                    for event in reader.feed(piece):
                        yield event
            except (httpx.HTTPError, httpx.StreamError) as cause:
                raise transport_error(cause, call) from cause
            for event in reader.end():
                yield event

    async def entities(self, prompt: str, *, request_id: str | None = None) -> EntitiesDocument:
        """Find the entities of a prompt; see Client.entities."""
        url = self._url + "/v1/entities"
        answer = await self._perform(entities_call(url, prompt, timeout_s=self._timeout_s, request_id=request_id))
        return read_document(EntitiesDocument, answer.content, url)

    async def healthy(self) -> bool:
        """Return whether the service runs; see Client.healthy."""
        return await self._is_ok("/healthz")

    async def ready(self) -> bool:
        """Return whether the parser and the segmenter answer; see Client.ready."""
        return await self._is_ok("/readyz")

    async def aclose(self) -> None:
        """Close the connections. The client cannot be used afterwards."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _prepare(
        self,
        prompt: str,
        contextual: Sequence[ImageInput | bytes | str | PathLike[str] | Image],
        generated: ImageInput | bytes | str | PathLike[str] | Image | None,
        options: SegmentOptions,
        stream: bool = False,
    ) -> Call:
        url = self._url + "/v1/segment"
        prepare = partial(segment_call, timeout_s=self._timeout_s, stream=stream)
        # In a thread, because reading files and encoding pictures would block the event loop.
        return await asyncio.to_thread(prepare, url, prompt, contextual, generated, options)

    async def _is_ok(self, path: str) -> bool:
        try:
            return (await self._perform(self._probe(path), max_retries=0)).status == 200
        except (ConnectionFailed, DeadlineExceeded):
            return False

    async def _perform(self, call: Call, max_retries: int | None = None) -> Answer:
        steps = exchange(call, self._max_retries if max_retries is None else max_retries)
        try:
            step = next(steps)
            while True:
                try:
                    answer = await (asyncio.sleep(step.seconds) if isinstance(step, Wait) else self._send(step))
                except (httpx.HTTPError, httpx.StreamError) as cause:
                    step = steps.throw(cause)
                else:
                    step = steps.send(answer)
        except StopIteration as stop:
            final: Answer = stop.value
            return final

    async def _send(self, send: Send) -> Answer:
        try:
            async with asyncio.timeout(send.wait_s):
                return await self._transfer(send)
        except TimeoutError:
            raise httpx.ReadTimeout("no answer in time") from None

    async def _transfer(self, send: Send) -> Answer:
        response = await self._http.send(self._http.build_request(**send.arguments), stream=True)
        if send.call.stream and response.status_code == 200:
            return Answer(200, response.headers, b"", response)
        async with aclosing(response):
            return Answer(response.status_code, response.headers, await response.aread())
