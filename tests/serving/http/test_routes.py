"""Routes, status codes and the one shape of errors, on the ASGI app itself with a fake service behind it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from serve_app import __version__
from serve_app.config.schema import AppConfig, LimitsConfig, ServingConfig
from serve_app.errors import (
    DeadlineExceeded,
    GensegError,
    InvalidModelReply,
    ModelUnavailable,
    Overloaded,
    TooManyRequests,
)
from serve_app.schemas.dicts import EntitiesDict
from serve_app.schemas.events import EventDict
from serve_app.schemas.requests import SegmentRequest
from serve_app.serving.http.routes import make_app
from serve_app.serving.replica.stage import Stage
from tests import documents
from tests.conftest import png

DOCUMENT = documents.result(
    "a dog",
    ["dog"],
    [documents.image("a.png", [documents.found_object("dog_0"), documents.found_object("dog_1")])],
    documents.image("g.png", [documents.found_object("dog_0")]),
)
PNG = base64.b64encode(png()).decode()


class FakeService:
    """Answers with DOCUMENT or raises `error`, and records the requests."""

    def __init__(self, error: Exception | None = None, tokens: tuple[str, ...] = (), late: bool = False) -> None:
        self.config = AppConfig(limits=LimitsConfig(max_body_bytes=20_000, max_images=3))
        self.error, self._tokens, self._late = error, tokens, late
        self.requests: list[SegmentRequest] = []
        self.ids: list[str] = []
        self.answers: list[tuple[str, int, str | None]] = []
        self.seconds: list[float] = []
        self.stages: list[tuple[str, Stage]] = []
        self.not_ready: list[str] = []
        self.full = False
        self.under_way = 0
        self.under_way_at_work: list[int] = []

    async def stream(self, request: SegmentRequest, request_id: str) -> AsyncGenerator[EventDict, None]:
        self.requests.append(request)
        self.ids.append(request_id)
        self.under_way_at_work.append(self.under_way)
        if self.error is not None and not self._late:
            raise self.error
        yield {"event": "entities", "entities": ["dog"], "dropped": []}
        if self.error is not None:
            raise self.error
        yield {"event": "result", "result": DOCUMENT}

    async def entities(self, prompt: str, request_id: str) -> EntitiesDict:
        self.ids.append(request_id)
        self.under_way_at_work.append(self.under_way)
        if self.error is not None:
            raise self.error
        return {"entities": [prompt], "dropped": []}

    @contextmanager
    def admitted(self) -> Iterator[None]:
        if self.full:
            raise TooManyRequests("the service is busy with 1 request, its limit; try again later")
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1

    async def missing(self) -> list[str]:
        return self.not_ready

    def tokens(self) -> tuple[str, ...]:
        return self._tokens

    def answered(self, route: str, status: int, seconds: float, code: str | None) -> None:
        self.answers.append((route, status, code))
        self.seconds.append(seconds)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        stage = Stage()
        self.stages.append((name, stage))
        yield stage


def client(service: FakeService) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(make_app(service)), base_url="http://test")


def body(**fields: Any) -> dict[str, Any]:
    return {"prompt": "a dog", "generated_image": {"data": PNG}, **fields}


def error_of(response: httpx.Response) -> dict[str, Any]:
    document = response.json()
    assert list(document) == ["error"]
    assert list(document["error"]) == ["code", "message", "field"]
    assert "Traceback" not in response.text
    assert "serve_app" not in response.text
    return dict(document["error"])


async def test_segment_takes_json() -> None:
    service = FakeService()
    async with client(service) as http:
        response = await http.post("/v1/segment", json=body(thresholds={"dog": 0}, mask_format="png"))
    assert (response.status_code, response.json()) == (200, DOCUMENT)
    assert service.requests[0].thresholds == {"dog": 0.0}
    assert 0 < service.seconds[0] < 60
    assert service.answers == [("/v1/segment", 200, None)]


async def test_the_reading_of_a_body_is_a_stage_that_tells_its_size() -> None:
    service = FakeService()
    async with client(service) as http:
        sent = await http.post("/v1/segment", json=body(contextual_images=[{"url": "https://a.test/b.png"}]))
        short = await http.post("/v1/entities", json={"prompt": "a dog"})
    lengths = [int(response.request.headers["content-length"]) for response in (sent, short)]
    assert [(name, stage.counts) for name, stage in service.stages] == [
        ("body", {"bytes": lengths[0], "images": 2}),
        ("body", {"bytes": lengths[1]}),
    ]


async def test_segment_takes_multipart_like_curl_sends_it() -> None:
    service = FakeService()
    fields = {"prompt": "a dog", "entities": '["dog"]', "threshold": "0.25", "overlays": "true", "mask_format": "none"}
    files = [("contextual", ("a.png", png())), ("contextual", ("b.png", png(1, 1))), ("generated", ("g.png", b"gg"))]
    async with client(service) as http:
        response = await http.post("/v1/segment", data=fields, files=files)
    assert response.status_code == 200
    request = service.requests[0]
    assert [image.name for image in request.contextual_images] == ["a.png", "b.png"]
    assert request.generated_image is not None
    assert request.generated_image.data == b"gg"
    assert (request.entities, request.threshold, request.overlays) == (["dog"], 0.25, True)


async def test_segment_streams_lines_on_request() -> None:
    async with client(FakeService()) as http:
        response = await http.post("/v1/segment", json=body(), headers={"Accept": "application/x-ndjson"})
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert response.headers["content-type"] == "application/x-ndjson"
    assert [line["event"] for line in lines] == ["entities", "result"]


async def test_an_error_in_mid_stream_is_its_last_line() -> None:
    service = FakeService(DeadlineExceeded("too late"), late=True)
    async with client(service) as http:
        response = await http.post("/v1/segment", json=body(), headers={"Accept": "application/x-ndjson"})
    last = json.loads(response.text.splitlines()[-1])
    assert last == {"event": "error", "error": {"code": "timeout", "message": "too late", "field": None}}


async def test_an_error_before_the_first_line_has_its_own_status() -> None:
    async with client(FakeService(DeadlineExceeded("too late"))) as http:
        response = await http.post("/v1/segment", json=body(), headers={"Accept": "application/x-ndjson"})
    assert response.status_code == 504
    assert error_of(response)["code"] == "timeout"


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"", "application/json", 400, "invalid_request"),
        (b"{", "application/json", 400, "invalid_request"),
        (b"[]", "application/json", 400, "invalid_request"),
        (b'{"a": NaN}', "application/json", 400, "invalid_request"),
        (b"[" * 9000, "application/json", 400, "invalid_request"),
        (b'{"prompt": "\xff"}', "application/json", 400, "invalid_request"),
        (b'{"prompt": "a", "prompt": "b"}', "application/json", 400, "invalid_request"),
        (b'{"prompt": 1}', "application/json", 400, "invalid_request"),
        (b'{"nonsense": 1}', "application/json", 400, "invalid_request"),
        (b'{"threshold": 1.5}', "application/json", 400, "invalid_request"),
        (b'{"threshold": "0.5"}', "application/json", 400, "invalid_request"),
        (b'{"overlays": 1}', "application/json", 400, "invalid_request"),
        (b'{"mask_format": "bitmap"}', "application/json", 400, "invalid_request"),
        (b'{"generated_image": {}}', "application/json", 400, "invalid_request"),
        (b'{"generated_image": {"data": "", "url": ""}}', "application/json", 400, "invalid_request"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b"{}", "", 415, "unsupported_media_type"),
        (b"x" * 20_001, "application/json", 413, "too_large"),
        (b"--x\r\n", "multipart/form-data", 400, "invalid_request"),
        (b"garbage", "multipart/form-data; boundary=x", 400, "invalid_request"),
        (
            b"--x\r\nContent-Disposition: form-data; name=prompt\r\n\r\nA do",
            "multipart/form-data; boundary=x",
            400,
            "invalid_request",
        ),
    ],
)
async def test_bad_bodies_get_their_status(content: bytes, kind: str, status: int, code: str) -> None:
    async with client(FakeService()) as http:
        response = await http.post("/v1/segment", content=content, headers={"Content-Type": kind} if kind else {})
    assert (response.status_code, error_of(response)["code"]) == (status, code)


@pytest.mark.parametrize(
    ("fields", "files", "field"),
    [
        ({"nonsense": "1"}, {}, "nonsense"),
        ({"threshold": "much"}, {}, "threshold"),
        ({"generated": "text"}, {}, "generated"),
        ({}, {"prompt": ("p.txt", b"x")}, "prompt"),
    ],
    ids=["unknown", "not json", "text for a file", "file for a text"],
)
async def test_bad_form_fields_are_named(fields: dict[str, str], files: dict[str, Any], field: str) -> None:
    async with client(FakeService()) as http:
        response = await http.post("/v1/segment", data=fields, files=files or {"contextual": ("a.png", b"a")})
    assert (response.status_code, error_of(response)["field"]) == (400, field)


@pytest.mark.parametrize("path", ["/v1/segment", "/v1/entities"])
@pytest.mark.parametrize(("coding", "status"), [("gzip", 415), ("br", 415), ("identity", 200), ("", 200)])
async def test_a_compressed_body_is_refused_by_its_header(path: str, coding: str, status: int) -> None:
    job = body() if path == "/v1/segment" else {"prompt": "a dog"}
    async with client(FakeService()) as http:
        response = await http.post(path, json=job, headers={"Content-Encoding": coding})
    assert response.status_code == status
    if status == 415:
        assert error_of(response)["code"] == "unsupported_media_type"
        assert coding in error_of(response)["message"]


async def test_too_many_files_are_too_large() -> None:
    files = [("contextual", (f"{index}.png", b"x")) for index in range(9)]
    async with client(FakeService()) as http:
        response = await http.post("/v1/segment", files=files)
    assert response.status_code == 413


async def test_a_body_without_length_is_cut_off_at_the_limit() -> None:
    sent = 0

    async def endless() -> AsyncGenerator[bytes, None]:
        nonlocal sent
        while sent < 10_000_000:
            sent += 1000
            yield b"x" * 1000

    async with client(FakeService()) as http:
        response = await http.post("/v1/segment", content=endless(), headers={"Content-Type": "application/json"})
    assert response.status_code == 413


async def test_a_full_service_refuses_before_it_reads_the_body() -> None:
    async def never() -> AsyncGenerator[bytes, None]:
        pytest.fail("the body was read")
        yield b""

    service = FakeService()
    service.full = True
    async with client(service) as http:
        response = await http.post("/v1/segment", content=never(), headers={"Content-Type": "application/json"})
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("error", [None, DeadlineExceeded("too late")])
async def test_a_request_is_admitted_once_over_its_body_and_its_job(
    accept: str, late: bool, error: GensegError | None
) -> None:
    service = FakeService(error, late=late)
    async with client(service) as http:
        await http.post("/v1/segment", json=body(), headers={"Accept": accept})
        assert (service.under_way_at_work, service.under_way) == ([1], 0)
        await http.post("/v1/segment", content=b"{", headers={"Content-Type": "application/json"})
        await http.post("/v1/entities", json={"prompt": "a dog"})
    assert (service.under_way_at_work, service.under_way) == ([1, 1], 0)


async def test_a_stream_that_is_dropped_half_way_ends_its_admission() -> None:
    class Endless(FakeService):
        async def stream(self, *_: object, **__: object) -> AsyncGenerator[EventDict, None]:
            while True:
                yield {"event": "entities", "entities": ["dog"], "dropped": []}
                await asyncio.sleep(0)

    service = Endless()
    sent = asyncio.Event()

    async def send(message: Message) -> None:
        if message.get("body"):
            sent.set()
            raise OSError("the client has left")

    messages: list[Message] = [{"type": "http.request", "body": json.dumps(body()).encode(), "more_body": False}]

    async def receive() -> Message:
        if not messages:
            await asyncio.Event().wait()  # the client sends nothing more
        return messages.pop()

    headers = [(b"content-type", b"application/json"), (b"accept", b"application/x-ndjson")]
    scope = {"type": "http", "method": "POST", "path": "/v1/segment", "headers": headers, "query_string": b""}
    with contextlib.suppress(OSError, ClientDisconnect):
        await make_app(service)(
            {**scope, "http_version": "1.1", "server": ("test", 80), "scheme": "http"}, receive, send
        )
    assert sent.is_set()
    assert service.under_way == 0


async def test_a_body_that_drips_is_given_up() -> None:
    async def dripping() -> AsyncGenerator[bytes, None]:
        while True:
            yield b" "
            await asyncio.sleep(0.02)

    service = FakeService()
    serving = ServingConfig(timeout_s=0.1, max_timeout_s=0.2)
    service.config = service.config.model_copy(update={"serving": serving})
    async with client(service) as http:
        response = await http.post("/v1/segment", content=dripping(), headers={"Content-Type": "application/json"})
    assert (response.status_code, error_of(response)["code"]) == (504, "timeout")


async def test_a_client_that_stops_sending_is_given_up() -> None:
    async def stalled() -> AsyncGenerator[bytes, None]:
        yield b"{"
        await asyncio.sleep(60)

    service = FakeService()
    # The lowest rate allows one byte a second, so that the pause ends the wait even on a slow machine.
    serving = ServingConfig(body_pause_s=0.1, min_body_rate=1)
    service.config = service.config.model_copy(update={"serving": serving})
    async with client(service) as http:
        response = await http.post("/v1/segment", content=stalled(), headers={"Content-Type": "application/json"})
    assert (response.status_code, error_of(response)["message"]) == (504, "no bytes of the body arrived for 0.1 s")


@pytest.mark.parametrize(
    ("accept", "streams"),
    [
        ("application/x-ndjson", True),
        ("application/json, application/x-ndjson; q=0.5", False),
        ("application/json; q=0.5, application/x-ndjson", True),
        ("application/x-ndjson;q=0", False),
        ("application/json, application/x-ndjson; q=0.0", False),
    ],
)
async def test_the_answer_streams_where_the_caller_takes_it(accept: str, streams: bool) -> None:
    async with client(FakeService()) as http:
        response = await http.post("/v1/segment", json=body(), headers={"Accept": accept})
    assert response.headers["content-type"].startswith("application/x-ndjson") is streams


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (TooManyRequests("busy"), 429, True),
        (Overloaded("full"), 503, True),
        (InvalidModelReply("no"), 502, False),
        (ModelUnavailable("refused"), 502, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, GensegError) else "",
)
async def test_errors_of_the_work_get_their_status(error: GensegError, status: int, retry: bool) -> None:
    service = FakeService(error)
    async with client(service) as http:
        response = await http.post("/v1/segment", json=body())
    assert (response.status_code, "retry-after" in response.headers) == (status, retry)
    assert service.answers == [("/v1/segment", status, error.code)]


async def test_an_unforeseen_error_says_nothing_of_the_server() -> None:
    async with client(FakeService(RuntimeError("/srv/secret/path"))) as http:
        response = await http.post("/v1/segment", json=body())
    assert response.status_code == 500
    assert error_of(response)["code"] == "internal"
    assert "secret" not in response.text


async def test_the_request_id_is_taken_or_made_and_echoed() -> None:
    service = FakeService()
    async with client(service) as http:
        given = await http.post("/v1/segment", json=body(), headers={"X-Request-ID": "abc-1"})
        made = await http.get("/healthz")
    assert given.headers["x-request-id"] == "abc-1"
    assert service.ids == ["abc-1"]
    assert len(made.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("Bearer wrong", 401),
        ("Basic first", 401),
        ("Bearer ", 401),
        ("Bearer first", 200),
        ("bearer second", 200),
    ],
)
async def test_a_token_is_needed_where_one_is_configured(header: str | None, status: int) -> None:
    headers = {"Authorization": header} if header else {}
    async with client(FakeService(tokens=("first", "second"))) as http:
        response = await http.post("/v1/segment", json=body(), headers=headers)
        health = await http.get("/healthz")
    assert response.status_code == status
    assert health.status_code == 200
    if status == 401:
        assert error_of(response)["code"] == "unauthorized"
        assert response.headers["www-authenticate"] == "Bearer"


async def test_readyz_says_what_is_missing() -> None:
    service = FakeService()
    async with client(service) as http:
        assert (await http.get("/readyz")).status_code == 200
        service.not_ready = ["segmentation"]
        response = await http.get("/readyz")
    assert (response.status_code, response.json()["missing"]) == (503, ["segmentation"])


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nope", 404), ("GET", "/v1/segment", 405)])
async def test_unknown_routes_and_methods_have_the_shape_of_errors(method: str, path: str, status: int) -> None:
    async with client(FakeService()) as http:
        response = await http.request(method, path)
    assert response.status_code == status
    assert error_of(response)["code"] == "invalid_request"


async def test_openapi_describes_both_bodies_and_every_error() -> None:
    async with client(FakeService()) as http:
        document = (await http.get("/openapi.json")).json()
        assert (await http.get("/docs")).status_code == 200
    assert document["info"]["version"] == __version__
    segment = document["paths"]["/v1/segment"]["post"]
    assert set(segment["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert {"200", "400", "401", "413", "415", "422", "429", "500", "502", "503", "504"} <= set(segment["responses"])
    answers = segment["responses"]["200"]["content"]
    assert set(answers) == {"application/json", "application/x-ndjson"}
    events = answers["application/x-ndjson"]["schema"]["anyOf"]
    assert [event["properties"]["event"]["const"] for event in events] == ["entities", "image", "result", "error"]
    verdict = document["components"]["schemas"]["Verdict"]["properties"]
    assert [*verdict] == ["arrived", "entities", "references", "overlaps", "scores", "reasons", "identity"]
    assert "$ref" not in json.dumps(events)
