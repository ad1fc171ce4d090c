"""Streams of events, as they arrive."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from serve_app import errors
from serve_app.client import (
    AsyncClient,
    Client,
    ConnectionFailed,
    EntitiesEvent,
    ImageEvent,
    InvalidAnswer,
    ResultEvent,
)
from tests.client.service import Service, error_document, image_document, result_document


def lines(*events: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(event, ensure_ascii=False).encode() + b"\n" for event in events)


ENTITIES = {"event": "entities", "entities": ["dog"], "dropped": []}
IMAGE = {"event": "image", "role": "generated", "index": 0, "image": image_document("g.jpg", more=1)}
RESULT = {"event": "result", "result": result_document()}


def ndjson(*pieces: bytes) -> Response:
    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
            await asyncio.sleep(0.02)

    return StreamingResponse(body(), media_type="application/x-ndjson")


def test_stream_gives_typed_events_however_the_bytes_are_cut(ask: Any, service: Service) -> None:
    text = lines(ENTITIES, {"event": "progress", "done": 1}, IMAGE, RESULT)
    service.will(ndjson(text[:5], text[5:60], text[60:-40], text[-40:-1]))
    entities, image, result = ask(service.url, "segment_stream", "A dog", generated=b"x")
    assert entities == EntitiesEvent(("dog",))
    assert isinstance(image, ImageEvent)
    assert (image.role, image.index, image.image.path, image.image.objects[0].label) == ("generated", 0, "g.jpg", "dog")
    assert isinstance(result, ResultEvent)
    assert result.result.to_dict() == result_document()
    assert service.seen[0].headers["accept"] == "application/x-ndjson"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_stream_gives_each_event_before_the_next_is_sent(service: Service, kind: str) -> None:
    got = [threading.Event(), threading.Event(), threading.Event()]

    async def answer(_: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            for seen, event in zip(got, [lines(ENTITIES), lines(IMAGE), lines(RESULT)], strict=True):
                yield event
                assert await asyncio.to_thread(seen.wait, 5.0), "the client holds an event back"

        return StreamingResponse(body(), media_type="application/x-ndjson")

    async def consume() -> int:
        count = 0
        async with AsyncClient(service.url) as client:
            async for _ in client.segment_stream("A dog", generated=b"x"):
                got[count].set()
                count += 1
        return count

    service.will(answer)
    if kind == "async":
        assert asyncio.run(consume()) == 3
        return
    with Client(service.url) as client:
        for index, _ in enumerate(client.segment_stream("A dog", generated=b"x")):
            got[index].set()
    assert all(one.is_set() for one in got)


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (lines(ENTITIES, {"event": "error", **error_document("timeout", "late")}), errors.DeadlineExceeded, "^late$"),
        (lines({"event": "error", **error_document("new_code", "odd")}), errors.GensegError, "odd"),
        (lines(ENTITIES, IMAGE), ConnectionFailed, "the stream ended before its result"),
        (lines(ENTITIES) + lines(RESULT)[:50], ConnectionFailed, "the stream ended before its result"),
        (b"", ConnectionFailed, "the stream ended before its result"),
        (b"<html>\n", InvalidAnswer, "not JSON: '<html>'"),
        (b"[1]\n", InvalidAnswer, "not an event"),
        (lines(result_document()), InvalidAnswer, "not an event"),
        (lines({**IMAGE, "role": "other"}), InvalidAnswer, "wrong 'image' event: role"),
        (lines({**IMAGE, "image": {}}), InvalidAnswer, "wrong 'image' event: image.path"),
        (lines({"event": "result"}), InvalidAnswer, "wrong 'result' event"),
        (lines({"event": "error"}), InvalidAnswer, "wrong 'error' event"),
        (lines({"event": "entities", "entities": "dog"}), InvalidAnswer, "wrong 'entities' event: entities"),
    ],
)
def test_stream_ends_in_an_error_never_in_silence(
    ask: Any, service: Service, text: bytes, kind: type[errors.GensegError], said: str
) -> None:
    service.will(ndjson(text))
    with pytest.raises(kind, match=said):
        ask(service.url, "segment_stream", "A dog", [b"x"])
    assert len(service.seen) == 1


def test_stream_cuts_lines_at_line_feeds_alone(ask: Any, service: Service) -> None:
    prompt = "a\u2028b\x85c\u2029d"
    service.will(ndjson(lines({"event": "result", "result": result_document(prompt=prompt)})))
    (event,) = ask(service.url, "segment_stream", prompt, [b"x"])
    assert event.result.prompt == prompt


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_stream_closed_early_hangs_up(service: Service, kind: str) -> None:
    gone = threading.Event()

    async def answer(_: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield lines(ENTITIES)
                    await asyncio.sleep(0.02)
            finally:
                gone.set()

        return StreamingResponse(body(), media_type="application/x-ndjson")

    async def first() -> None:
        async with AsyncClient(service.url) as client:
            events = client.segment_stream("A dog", [b"x"])
            await events.__anext__()
            await events.aclose()
            assert await asyncio.to_thread(gone.wait, 5.0)

    service.will(answer)
    if kind == "async":
        asyncio.run(first())
        return
    with Client(service.url) as client:
        events = client.segment_stream("A dog", [b"x"])
        next(events)
        events.close()
        assert gone.wait(5.0)
