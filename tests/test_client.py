"""The client against a real server in a thread that answers what each test wrote down; both clients, same tests."""

from __future__ import annotations

import asyncio
import io
import json
import pickle
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from serve_app import errors
from serve_app.client import (
    AsyncClient,
    Client,
    ConnectionFailed,
    EntitiesEvent,
    ImageEvent,
    InvalidAnswer,
    Result,
    ResultEvent,
)
from serve_app.schemas import ImageInput

BYTES = b"\x89PNG not looked at by the client\x00\xff"


def image_document(path: str = "a.jpg", **changes: Any) -> dict[str, Any]:
    found = {
        "object_id": "dog_0",
        "label": "dog",
        "bbox": [0, 0, 2, 2],
        "score": 0.9,
        "mask_rle": {"size": [2, 3], "counts": "042"},
    }
    return {
        "path": path,
        "width": 3,
        "height": 2,
        "objects": [found],
        "presence": {"dog": 0.99},
        "error": None,
        **changes,
    }


def result_document(**changes: Any) -> dict[str, Any]:
    return {
        "prompt": "A dog",
        "entities": ["dog"],
        "contextual_images": [image_document()],
        "generated_image": None,
        "box_format": "xyxy",
        "coordinate_unit": "pixels",
        "meta": {
            "request_id": "r-1",
            "models": {"text_parser": "t", "segmentation": "s"},
            "threshold": 0.5,
            "mask_threshold": 0.5,
            "timings_ms": {"parse": 1, "segment": 2.0, "total": 3.0},
        },
        **changes,
    }


def error_document(code: str, message: str = "no", field: str | None = None) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "field": field}}


@dataclass
class Seen:
    """One request as the server got it; `fields` is the JSON body or the form, files as (name, bytes)."""

    method: str
    path: str
    headers: dict[str, str]
    fields: dict[str, Any]


class Service:
    """Answers each request with the next answer of the test, and keeps what it saw."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[Seen] = []
        self.answers: deque[Callable[[Request], Awaitable[Response]]] = deque()

    def will(self, *answers: Response | Callable[[Request], Awaitable[Response]]) -> None:
        for answer in answers:
            self.answers.append(answer if not isinstance(answer, Response) else _just(answer))

    async def answer(self, request: Request) -> Response:
        fields: dict[str, Any] = {}
        kind = request.headers.get("content-type", "")
        if kind.startswith("multipart/form-data"):
            for key, value in (await request.form()).multi_items():
                kept = (value.filename, await value.read()) if isinstance(value, UploadFile) else value
                fields.setdefault(key, []).append(kept)
        elif kind == "application/json":
            fields = await request.json()
        self.seen.append(Seen(request.method, request.url.path, dict(request.headers), fields))
        return await self.answers.popleft()(request)


def _just(response: Response) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return response

    return answer


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    service = Service()
    app = Starlette(routes=[Route("/{path:path}", service.answer, methods=["GET", "POST"])])
    listener = socket.create_server(("127.0.0.1", 0))
    service.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    uvicorn_server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=uvicorn_server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield service
    finally:
        uvicorn_server.should_exit = True
        thread.join(10)


@pytest.fixture
def service(server: Service) -> Service:
    server.seen.clear()
    server.answers.clear()
    return server


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Calls one method of one client; a stream comes back as a list."""

    def ask_sync(url: str, method: str, *args: Any, client: dict[str, Any] | None = None, **options: Any) -> Any:
        with Client(url, **(client or {})) as one:
            answer = getattr(one, method)(*args, **options)
            return list(answer) if method == "segment_stream" else answer

    async def ask_async(url: str, method: str, *args: Any, client: dict[str, Any] | None = None, **options: Any) -> Any:
        async with AsyncClient(url, **(client or {})) as one:
            answer = getattr(one, method)(*args, **options)
            return [event async for event in answer] if method == "segment_stream" else await answer

    return ask_sync if request.param == "sync" else lambda *args, **options: asyncio.run(ask_async(*args, **options))


@contextmanager
def raw_server(serve: Callable[[socket.socket], None], delay_s: float = 0.0) -> Iterator[tuple[str, list[int]]]:
    """A server that does with each connection what no HTTP library would; yields its address and a list of visits."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    visits: list[int] = []
    if delay_s:
        listener.close()

    def run() -> None:
        nonlocal listener
        if delay_s:
            time.sleep(delay_s)
            listener = socket.create_server(("127.0.0.1", port))
        listener.settimeout(10)
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                visits.append(1)
                try:
                    serve(connection)
                except OSError:
                    continue

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}", visits
    finally:
        if delay_s:
            thread.join(0.1)
        listener.close()
        thread.join(11)


def read_request(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(65536)
    head, body = head.split(b"\r\n\r\n", 1)
    length = next((int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return body


# ---------------------------------------------------------------------------------------------------- what is sent


def test_segment_sends_paths_and_bytes_as_multipart(ask: Any, service: Service, tmp_path: Path) -> None:
    path = tmp_path / "hund ü.jpg"
    path.write_bytes(BYTES)
    service.will(JSONResponse(result_document()))
    result = ask(
        service.url,
        "segment",
        "A dog, 'ü'",
        [path, b"first"],
        ImageInput(data=b"second", url=None, name="g.png"),
        entities=["dog", "red sofa"],
        threshold=0.0,
        thresholds={"dog": 0.25},
        mask_format="polygon",
        overlays=True,
        timeout_s=7,
        request_id="job 7",
        client={"token": "s3cret"},
    )
    assert isinstance(result, Result)
    assert result.document.model_dump(exclude_unset=True) == result_document()
    (seen,) = service.seen
    assert (seen.method, seen.path) == ("POST", "/v1/segment")
    assert seen.headers["x-request-id"] == "job 7"
    assert seen.headers["authorization"] == "Bearer s3cret"
    assert {key: value for key, value in seen.fields.items() if key not in {"entities", "thresholds"}} == {
        "prompt": ["A dog, 'ü'"],
        "threshold": ["0.0"],
        "mask_format": ["polygon"],
        "overlays": ["true"],
        "timeout_s": ["7.0"],
        "contextual": [(str(path), BYTES), ("image_1", b"first")],
        "generated": [("g.png", b"second")],
    }
    assert json.loads(seen.fields["entities"][0]) == ["dog", "red sofa"]
    assert json.loads(seen.fields["thresholds"][0]) == {"dog": 0.25}


def test_segment_sends_json_where_an_image_is_a_url(ask: Any, service: Service) -> None:
    service.will(JSONResponse(result_document()))
    ask(service.url, "segment", "A dog", ["https://example.org/a.jpg"], b"\x00\xff", thresholds={"dog": 0.25})
    assert service.seen[0].fields == {
        "prompt": "A dog",
        "contextual_images": [{"url": "https://example.org/a.jpg"}],
        "generated_image": {"data": "AP8="},
        "thresholds": {"dog": 0.25},
        "timeout_s": 60.0,
    }


def test_segment_sends_json_without_images_so_that_the_server_decides(ask: Any, service: Service) -> None:
    service.will(JSONResponse(error_document("invalid_request", "no image"), 400))
    with pytest.raises(errors.InvalidRequest, match="no image"):
        ask(service.url, "segment", "A dog")
    assert service.seen[0].fields["contextual_images"] == []


@pytest.mark.parametrize("name", ['a"b.jpg', "a\\b.jpg", "a\nb.jpg"], ids=["quote", "backslash", "line feed"])
def test_segment_sends_names_unchanged(ask: Any, service: Service, name: str) -> None:
    service.will(JSONResponse(result_document()))
    ask(service.url, "segment", "A dog", [ImageInput(data=BYTES, url=None, name=name)])
    assert service.seen[0].fields["contextual_images"][0]["name"] == name


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "RGBA"])
def test_segment_sends_pillow_images_without_loss(ask: Any, service: Service, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    service.will(JSONResponse(result_document()))
    ask(service.url, "segment", "A dog", generated=image)
    name, sent = service.seen[0].fields["generated"][0]
    assert name == "image_0"
    with Image.open(io.BytesIO(sent)) as received:
        assert received.format == "PNG"
        assert np.array_equal(np.asarray(received.convert("RGB")), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(
    ("arguments", "options", "field"),
    [
        ((), {"threshold": 1.5}, "threshold"),
        ((), {"threshold": "0.5"}, "threshold"),
        ((), {"thresholds": {"dog": -0.1}}, "thresholds.dog"),
        ((), {"mask_format": "bitmap"}, "mask_format"),
        ((), {"timeout_s": 0}, "timeout_s"),
        ((), {"timeout_s": float("inf")}, "timeout_s"),
        ((), {"treshold": 0.5}, "treshold"),
        ((), {"request_id": "a\r\nX-Evil: 1"}, "request_id"),
        ((), {"request_id": "ü"}, "request_id"),
        ((7,), {}, "prompt"),
        (("A dog", "a.jpg"), {}, "contextual_images"),
        (("A dog", [b"x", 7]), {}, "contextual_images[1]"),
        (("A dog", [ImageInput(data=b"x", url=None, name="a")], {"data": b"x"}), {}, "generated_image"),
    ],
)
def test_segment_refuses_wrong_arguments_before_sending(
    ask: Any, service: Service, arguments: Any, options: Any, field: str
) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        ask(service.url, "segment", *arguments, **options)
    assert caught.value.field == field
    assert service.seen == []


def test_segment_names_the_file_that_is_missing(ask: Any, service: Service, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg"):
        ask(service.url, "segment", "A dog", [tmp_path / "nowhere.jpg"])
    assert service.seen == []


def test_entities_reads_the_document(ask: Any, service: Service) -> None:
    document = {"entities": ["dog"], "dropped": [{"entity": "mood", "reason": "excluded"}]}
    service.will(JSONResponse(document))
    answer = ask(service.url, "entities", "A dog, moody", request_id="e-1")
    assert answer.model_dump() == document
    (seen,) = service.seen
    assert (seen.path, seen.fields, seen.headers["x-request-id"]) == ("/v1/entities", {"prompt": "A dog, moody"}, "e-1")


def test_base_url_keeps_its_path(ask: Any, service: Service) -> None:
    service.will(JSONResponse({"entities": [], "dropped": []}))
    ask(service.url + "/genseg/", "entities", "fog")
    assert service.seen[0].path == "/genseg/v1/entities"


# --------------------------------------------------------------------------------------------------- what comes back


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_request", errors.InvalidRequest),
        (401, "unauthorized", errors.Unauthorized),
        (413, "too_large", errors.TooLarge),
        (415, "unsupported_media_type", errors.UnsupportedMediaType),
        (422, "invalid_image", errors.InvalidImage),
        (422, "fetch_failed", errors.FetchFailed),
        (502, "invalid_model_reply", errors.InvalidModelReply),
        (504, "timeout", errors.DeadlineExceeded),
        (500, "internal", errors.InternalError),
        (418, "teapot", errors.GensegError),
    ],
)
@pytest.mark.parametrize("method", ["segment", "segment_stream"])
def test_errors_come_back_as_their_classes_and_are_not_tried_again(
    ask: Any, service: Service, status: int, code: str, kind: type[errors.GensegError], method: str
) -> None:
    service.will(JSONResponse(error_document(code, "contextual_images[1]: no", "contextual_images[1]"), status))
    with pytest.raises(errors.GensegError) as caught:
        ask(service.url, method, "A dog", [b"x"])
    assert type(caught.value) is kind
    assert caught.value.field == "contextual_images[1]"
    assert caught.value.message.startswith("contextual_images[1]: no")
    assert len(service.seen) == 1
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), again.message, again.field) == (kind, caught.value.message, caught.value.field)


@pytest.mark.parametrize(
    ("response", "kind", "said"),
    [
        (HTMLResponse("<h1>502\nBad Gateway</h1>", 502), InvalidAnswer, "<h1>502 Bad Gateway</h1>"),
        (PlainTextResponse("Path '/v1/segment' not found", 404), InvalidAnswer, "not found"),
        (PlainTextResponse("", 500), InvalidAnswer, "an empty body"),
        (HTMLResponse("<h1>too big</h1>", 413), errors.TooLarge, "answered 413"),
        (HTMLResponse("<h1>slow</h1>", 504), errors.DeadlineExceeded, "answered 504"),
        (Response(status_code=307, headers={"location": "https://else.example/"}), InvalidAnswer, "else.example"),
        (Response(status_code=204), InvalidAnswer, "answered 204"),
        (JSONResponse({"detail": "Not Found"}, 404), InvalidAnswer, "Not Found"),
        (HTMLResponse("<h1>Welcome to nginx</h1>", 200), InvalidAnswer, "no ResultDocument"),
        (JSONResponse({}, 200), InvalidAnswer, "prompt: Field required"),
        (JSONResponse(result_document(entities="dog"), 200), InvalidAnswer, "entities: "),
        (JSONResponse(result_document(contextual_images=[image_document(width="3")])), InvalidAnswer, r"\[0\]\.width"),
    ],
)
def test_segment_says_who_else_answers(ask: Any, service: Service, response: Response, kind: Any, said: str) -> None:
    service.will(response)
    with pytest.raises(kind, match=said) as caught:
        ask(service.url, "segment", "A dog", [b"x"])
    assert service.url + "/v1/segment" in caught.value.message
    assert "\n" not in caught.value.message
    assert len(service.seen) == 1


def test_segment_skips_the_fields_of_a_newer_server(ask: Any, service: Service) -> None:
    newer = result_document(license="CC0", contextual_images=[image_document(depth=[1.0])])
    newer["meta"]["timings_ms"]["queue"] = 1.0
    service.will(JSONResponse(newer))
    assert ask(service.url, "segment", "A dog", [b"x"]).to_dict() == result_document()


# ------------------------------------------------------------------------------------------------------ trying again


@pytest.mark.parametrize(
    ("status", "kind"), [(429, errors.TooManyRequests), (503, errors.Overloaded)], ids=["429", "503"]
)
def test_overload_is_tried_again_after_retry_after(
    ask: Any, service: Service, status: int, kind: type[errors.Overloaded]
) -> None:
    busy = JSONResponse(error_document("overloaded"), status, headers={"retry-after": "1"})
    service.will(busy, JSONResponse(result_document()))
    start = time.monotonic()
    assert ask(service.url, "segment", "A dog", [b"x"], b"y").prompt == "A dog"
    assert 1.0 <= time.monotonic() - start < 4.0
    first, second = service.seen
    assert first.fields == second.fields
    assert second.fields["generated"] == [("image_1", b"y")]


@pytest.mark.parametrize("method", ["segment", "segment_stream"])
def test_overload_is_given_up_after_max_retries(ask: Any, service: Service, method: str) -> None:
    service.will(*[JSONResponse(error_document("overloaded"), 429, headers={"retry-after": "0"})] * 2)
    with pytest.raises(errors.TooManyRequests) as caught:
        ask(service.url, method, "A dog", [b"x"], client={"max_retries": 1})
    assert caught.value.retry_after_s == 0.0
    assert len(service.seen) == 2


def test_overload_is_given_up_where_the_wait_would_pass_the_deadline(ask: Any, service: Service) -> None:
    service.will(PlainTextResponse("Service Unavailable", 503, headers={"retry-after": "100"}))
    start = time.monotonic()
    with pytest.raises(errors.Overloaded) as caught:
        ask(service.url, "segment", "A dog", [b"x"], timeout_s=5)
    assert time.monotonic() - start < 2.0
    assert caught.value.retry_after_s == 100.0
    assert len(service.seen) == 1


def test_refused_connection_is_tried_again(ask: Any) -> None:
    body = json.dumps({"entities": [], "dropped": []}).encode()

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + body)

    with raw_server(serve, delay_s=0.3) as (url, visits):
        assert ask(url, "entities", "fog").entities == []
        assert len(visits) == 1


def test_refused_connection_names_the_address_on_one_line(ask: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(ConnectionFailed, match=f"^{url}/v1/entities: cannot connect: .+$") as caught:
        ask(url, "entities", "fog", client={"max_retries": 0})
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.message == caught.value.message


# --------------------------------------------------------------------------------------- broken and slow connections

CUTS = {
    "before the answer": b"",
    "in the head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "in the body": b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"prompt"',
    "in a chunk": b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"pro',
    "no HTTP at all": b"SSH-2.0-OpenSSH_9.2\r\n",
}


@pytest.mark.parametrize("sent", CUTS.values(), ids=CUTS.keys())
@pytest.mark.parametrize("method", ["segment", "segment_stream"])
def test_cut_connection_is_an_error_and_not_tried_again(ask: Any, sent: bytes, method: str) -> None:
    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(sent)

    with raw_server(serve) as (url, visits):
        with pytest.raises(ConnectionFailed, match=f"^{url}/v1/segment: the connection broke") as caught:
            ask(url, method, "A dog", [b"x"])
        assert len(visits) == 1
    assert "\n" not in caught.value.message


def test_refusal_is_read_though_the_body_was_not(ask: Any) -> None:
    body = json.dumps(error_document("too_large", "the body is over 64 MiB")).encode()

    def serve(connection: socket.socket) -> None:
        connection.recv(1024)
        head = f"HTTP/1.1 413 Too Large\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 20):  # as servers do: the rest is read away, or a reset would eat the answer
            pass

    with raw_server(serve) as (url, _), pytest.raises(errors.TooLarge, match="over 64 MiB"):
        ask(url, "segment", "A dog", [bytes(8 << 20)])


def _trickle(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(60):
        connection.sendall(b" ")
        time.sleep(0.1)


def _silence(connection: socket.socket) -> None:
    read_request(connection)
    connection.recv(1)


@pytest.mark.parametrize("serve", [_silence, _trickle], ids=["silent", "trickling"])
def test_slow_server_ends_in_deadline_exceeded(ask: Any, serve: Any) -> None:
    with raw_server(serve) as (url, visits):
        start = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded, match=rf"^{url}/v1/segment: no answer within 0\.1 s$"):
            ask(url, "segment", "A dog", [b"x"], timeout_s=0.1)
        assert 0.1 <= time.monotonic() - start < 4.0
        assert len(visits) == 1


# ------------------------------------------------------------------------------------------------------------ streams


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

    async def answer(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            for seen, event in zip(got, (ENTITIES, IMAGE, RESULT), strict=True):
                yield lines(event)
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
        (b"[1]\n", InvalidAnswer, "no event"),
        (lines(result_document()), InvalidAnswer, "no event"),
        (lines({**IMAGE, "role": "other"}), InvalidAnswer, "wrong 'image' event: role"),
        (lines({**IMAGE, "image": {}}), InvalidAnswer, "wrong 'image' event: path"),
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

    async def answer(request: Request) -> Response:
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
            await events.aclose()  # type: ignore[attr-defined]
            assert await asyncio.to_thread(gone.wait, 5.0)

    service.will(answer)
    if kind == "async":
        asyncio.run(first())
        return
    with Client(service.url) as client:
        events = client.segment_stream("A dog", [b"x"])
        next(events)
        events.close()  # type: ignore[attr-defined]
        assert gone.wait(5.0)


# ------------------------------------------------------------------------------------------------- health, addresses


@pytest.mark.parametrize(("method", "path"), [("ready", "/readyz"), ("healthy", "/healthz")])
@pytest.mark.parametrize(("status", "expected"), [(200, True), (503, False)])
def test_ready_and_healthy_read_the_status(
    ask: Any, service: Service, method: str, path: str, status: int, expected: bool
) -> None:
    service.will(JSONResponse({"missing": ["segmenter"]}, status))
    assert ask(service.url, method) is expected
    assert [seen.path for seen in service.seen] == [path]


def test_ready_is_false_where_nobody_answers(ask: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert ask(url, "ready") is False


@pytest.mark.parametrize(
    ("response", "kind"),
    [(HTMLResponse("x", 404), InvalidAnswer), (JSONResponse(error_document("unauthorized"), 401), errors.Unauthorized)],
    ids=["other service", "no token"],
)
def test_ready_is_no_false_where_the_address_is_wrong(ask: Any, service: Service, response: Response, kind: Any) -> None:
    service.will(response)
    with pytest.raises(kind):
        ask(service.url, "ready")


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("url", ["127.0.0.1:8000", "localhost", "ftp://host", "http://", "", "http://a b", "http://h:x"])
def test_client_refuses_an_address_that_is_none(kind: Any, url: str) -> None:
    with pytest.raises(errors.ConfigError, match="^base_url: "):
        kind(url)


@pytest.mark.parametrize(
    "options", [{"token": ""}, {"token": "a\nb"}, {"token": "ü"}, {"timeout_s": 0}, {"timeout_s": float("nan")}]
)
def test_client_refuses_unusable_arguments(options: dict[str, Any]) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        Client(**options)
    assert "a\nb" not in caught.value.message


def test_secrets_stay_out_of_messages(ask: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionFailed) as caught:
        ask(f"http://me:hunter2@127.0.0.1:{port}", "entities", "fog", client={"token": "t0ken", "max_retries": 0})
    assert "hunter2" not in caught.value.message
    assert "t0ken" not in caught.value.message
    assert repr(Client(f"http://me:hunter2@127.0.0.1:{port}", token="t0ken")) == f"Client('http://127.0.0.1:{port}')"


def test_user_and_password_of_the_address_are_sent(ask: Any, service: Service) -> None:
    service.will(JSONResponse({"entities": [], "dropped": []}))
    ask(service.url.replace("//", "//me:hunter2@"), "entities", "fog")
    assert service.seen[0].headers["authorization"] == "Basic bWU6aHVudGVyMg=="


# ------------------------------------------------------------------------------------------------------- concurrency


def test_async_client_keeps_answers_apart(service: Service) -> None:
    async def answer(request: Request) -> Response:
        identity = request.headers["x-request-id"]
        await asyncio.sleep(0.01 * (int(identity) % 3))
        document = result_document()
        document["meta"]["request_id"] = identity
        return JSONResponse(document)

    async def run() -> list[str]:
        async with AsyncClient(service.url) as client:
            jobs = [client.segment("A dog", [b"x"], request_id=str(index)) for index in range(20)]
            return [result.request_id for result in await asyncio.gather(*jobs)]

    service.will(*[answer] * 20)
    assert asyncio.run(run()) == [str(index) for index in range(20)]


def test_async_client_does_not_hold_the_loop_while_it_waits(service: Service) -> None:
    async def run() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.ensure_future(tick())
        async with AsyncClient(service.url) as client:
            await client.segment("A dog", [b"x"])
        ticking.cancel()
        return ticks

    busy = JSONResponse(error_document("overloaded"), 503, headers={"retry-after": "0.5"})
    service.will(busy, JSONResponse(result_document()))
    assert asyncio.run(run()) > 10
