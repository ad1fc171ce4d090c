"""The guard around Ray's proxy: the headers that it refuses or drops, its own answers, and delayed bodies."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.serving.http.proxy_guard import PAUSE_S, middlewares


def guarded(app: ASGIApp) -> ASGIApp:
    """The app behind the guard, as Ray builds it."""
    (middleware,) = middlewares()
    return middleware.cls(app, *middleware.args, **middleware.kwargs)


async def no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def pass_through(*headers: tuple[bytes, bytes]) -> tuple[list[tuple[bytes, bytes]] | None, list[Message]]:
    """Send a request; returns the headers that reached the proxy, None if none did, and the answer."""
    reached: list[list[tuple[bytes, bytes]]] = []
    answer: list[Message] = []

    async def proxy(scope: Scope, _receive: Receive, _send: Send) -> None:
        reached.append(scope["headers"])

    async def send(message: Message) -> None:
        answer.append(message)

    await guarded(proxy)({"type": "http", "method": "GET", "path": "/", "headers": [*headers]}, no_body, send)
    return (reached[0] if reached else None), answer


@pytest.mark.parametrize(
    "name",
    [
        b"x-request-id",
        b"x-session-id",
        b"serve_multiplexed_model_id",
        b"serve-multiplexed-model-id",
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
        b"traceparent",
    ],
)
async def test_headers_that_ray_reads_as_utf8_are_refused_where_they_are_not(name: bytes) -> None:
    reached, answer = await pass_through((name, b"caf\xe9"))
    assert reached is None
    assert answer[0]["status"] == 400
    error = json.loads(answer[1]["body"])["error"]
    assert (error["code"], error["message"]) == (
        "invalid_request",
        f"the value of the header {name.decode()} is not UTF-8",
    )


async def test_other_headers_may_hold_any_bytes() -> None:
    headers = [(b"accept", b"\xff"), (b"user-agent", b"caf\xe9"), (b"x-request-id", "café".encode())]
    reached, _ = await pass_through(*headers)
    assert reached == headers


async def test_headers_that_steer_rays_proxy_are_dropped() -> None:
    kept = (b"content-type", b"application/json")
    steering = [
        (b"serve_multiplexed_model_id", b"m"),
        (b"serve-multiplexed-model-id", b"m"),
        (b"x-session-id", b"s"),
        (b"x-request-timeout-seconds", b"0.001"),
        (b"X-Request-Disconnect-Disabled", b"?1"),
    ]
    reached, _ = await pass_through(*steering, kept)
    assert reached == [kept]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"abc", [b"abc"]),
        (b"", []),
        (b"  ", []),
        (b"y" * 5000, [b"y" * 128]),
        ("é".encode() * 200, ["é".encode() * 128]),
    ],
    ids=["short", "empty", "blank", "long", "long, not ASCII"],
)
async def test_a_request_id_is_cut_and_an_empty_one_is_dropped(given: bytes, kept: list[bytes]) -> None:
    reached, _ = await pass_through((b"X-Request-ID", given))
    assert reached == [(b"x-request-id", value) for value in kept]


async def test_of_several_request_ids_the_first_counts() -> None:
    # Ray's log takes the last of a name, its answer the first.
    given = [(b"x-request-id", b" "), (b"X-Request-ID", b"one"), (b"x_request_id", b"two"), (b"x-request-id", b"three")]
    reached, _ = await pass_through(*given)
    assert reached == [(b"x-request-id", b"one")]


async def test_headers_over_their_bound_go_no_further() -> None:
    reached, answer = await pass_through((b"x-long", b"x" * 70_000))
    assert (reached, answer[0]["status"]) == (None, 413)


async def test_what_is_no_http_passes() -> None:
    seen: list[str] = []

    async def proxy(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    async def send(_: Message) -> None:
        pytest.fail("the guard answered")

    await guarded(proxy)({"type": "lifespan"}, no_body, send)
    assert seen == ["lifespan"]


# ---- the proxy's own answers ---------------------------------------------------------------------------------------


class Proxy:
    """Stands for Ray's proxy: its own answers have few headers and no Content-Length."""

    def __init__(self, status: int, text: str, *headers: tuple[bytes, bytes], routes: bytes | None = b"{}") -> None:
        self.status, self.text, self.headers, self.routes = status, text, headers, routes

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["path"].endswith("/-/routes"):
            await self.answer(send, 503 if self.routes is None else 200, self.routes or b"Route table is not populated")
        elif self.status:
            await self.answer(send, self.status, self.text.encode(), *self.headers)

    async def answer(self, send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
        kind = [b"content-type", b"text/plain; charset=utf-8"]
        start = {"type": "http.response.start", "status": status, "headers": [kind, *headers, (b"x-request-id", b"r1")]}
        await send(start)
        await send({"type": "http.response.body", "body": body})


async def ask(proxy: ASGIApp, *headers: tuple[bytes, bytes], leaves: bool = False, **scope: object) -> list[Message]:
    """Send a request through the guard; returns the answer's messages."""
    answer: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"} if leaves else await no_body()

    async def send(message: Message) -> None:
        answer.append(message)

    whole = {"type": "http", "method": "POST", "path": "/v1/segment", "headers": [*headers], "root_path": "", **scope}
    await guarded(proxy)(whole, receive, send)
    return answer


def read(answer: list[Message]) -> tuple[int, dict[str, str], dict[str, Any]]:
    headers = {bytes(name).decode().lower(): bytes(value).decode() for name, value in answer[0]["headers"]}
    assert headers["content-type"] == "application/json"
    assert int(headers["content-length"]) == len(answer[1]["body"])
    return answer[0]["status"], headers, json.loads(answer[1]["body"])["error"]


NOT_FOUND = "Path '/v1/segment' not found. Ping http://.../-/routes for available routes."
FULL = "Request dropped due to backpressure (num_queued_requests=64, max_queued_requests=64)."


@pytest.mark.parametrize(
    ("proxy", "status", "code", "message"),
    [
        (Proxy(404, NOT_FOUND, routes=None), 503, "overloaded", "the service is starting"),
        (Proxy(404, NOT_FOUND, routes=b"{}"), 503, "overloaded", "the service is starting"),
        (Proxy(404, NOT_FOUND, routes=b'{"/vision":"segmentation"}'), 404, "invalid_request", "not found"),
        (Proxy(503, FULL, (b"retry-after", b"7")), 503, "overloaded", "queues are full"),
        (Proxy(503, "Deployment is unavailable"), 503, "overloaded", "queues are full"),
        (Proxy(408, "Request r1 timed out after 0.001s."), 504, "timeout", "the proxy's time limit"),
        (Proxy(0, ""), 500, "internal", "internal error"),
    ],
)
async def test_what_the_proxy_answers_itself_has_the_one_shape(
    proxy: Proxy, status: int, code: str, message: str
) -> None:
    answered, headers, error = read(await ask(proxy))
    assert (answered, error["code"], error["field"]) == (status, code, None)
    assert message in error["message"]
    assert headers.get("x-request-id") == (None if code == "internal" else "r1")
    given = dict(proxy.headers).get(b"retry-after", b"1").decode()
    assert headers.get("retry-after") == (given if status == 503 else None)


async def test_an_answer_of_an_application_passes_as_it_is() -> None:
    async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": b"no", "more_body": False})

    async def streamed(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 404, "headers": headers})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b", "more_body": False})

    assert [message.get("body") for message in await ask(application)] == [None, b"no"]
    assert [message.get("body") for message in await ask(streamed)] == [None, b"a", b"b"]


@pytest.mark.parametrize("path", ["/-/routes", "/-/healthz", "/gw/-/healthz"])
async def test_rays_own_routes_answer_in_rays_words(path: str) -> None:
    root_path = "/gw" if path.startswith("/gw") else ""
    answer = await ask(Proxy(503, "Route table is not populated", routes=None), path=path, root_path=root_path)
    assert (answer[0]["status"], answer[1]["body"]) == (503, b"Route table is not populated")


async def test_nothing_is_answered_to_a_client_that_has_left() -> None:
    async def proxy(_scope: Scope, receive: Receive, _send: Send) -> None:
        await receive()

    assert await ask(proxy, leaves=True) == []


async def test_a_proxy_that_fails_is_an_error_in_the_one_shape(caplog: pytest.LogCaptureFixture) -> None:
    async def proxy(*_: object) -> None:
        raise RuntimeError("SECRET")

    answer = await ask(proxy)
    assert read(answer)[0] == 500
    assert "SECRET" not in caplog.text + str(answer)


# ---- bodies that must wait ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "holds"),
    [
        ({b"content-type": b"application/json", b"content-length": b"9000"}, False),
        ({b"content-type": b"multipart/form-data; boundary=b", b"content-length": b"9000"}, False),
        ({b"content-type": b"application/json", b"content-length": b"67108865"}, True),
        ({b"content-type": b"application/json", b"content-length": b"9" * 99}, True),
        ({b"content-type": b"text/plain", b"content-length": b"9"}, True),
        ({b"content-length": b"9"}, True),
        ({b"content-type": b"application/json", b"content-encoding": b"gzip"}, True),
    ],
    ids=["json", "form", "large", "huge", "text", "no type", "compressed"],
)
@pytest.mark.parametrize("expects", [True, False])
async def test_a_body_that_will_probably_be_refused_is_not_asked_for_at_once(
    headers: dict[bytes, bytes], holds: bool, expects: bool
) -> None:
    asked_when_answered: list[bool] = []
    asked = asyncio.Event()

    async def receive() -> Message:
        asked.set()
        await asyncio.Event().wait()
        return {}

    async def proxy(_scope: Scope, receive: Receive, send: Send) -> None:
        pump = asyncio.ensure_future(receive())
        await asyncio.sleep(0.05)
        asked_when_answered.append(asked.is_set())
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
        pump.cancel()

    answer: list[Message] = []

    async def send(message: Message) -> None:
        answer.append(message)

    expect = [(b"expect", b"100-continue")] if expects else []
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [*headers.items(), *expect]}
    await guarded(proxy)(scope, receive, send)
    assert asked_when_answered == [not (holds and expects)]
    assert ((b"connection", b"close") in answer[0]["headers"]) is (holds and expects)


async def test_a_body_that_is_not_refused_is_asked_for_after_a_while() -> None:
    async def proxy(_scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "http.request"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    begin = time.monotonic()
    answer = await ask(proxy, (b"expect", b"100-continue"))
    assert time.monotonic() - begin >= PAUSE_S
    assert answer[0]["headers"] == [(b"content-length", b"0")]
