"""The middleware with raw ASGI messages: unread bodies, headers over the limit, and callers who leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from serve_app.config.schema import ServingConfig
from serve_app.serving.http import middleware
from serve_app.serving.http.body_stream import DRAIN_BODIES, IncomingBody
from serve_app.serving.http.routes import make_app
from tests.serving.http.test_routes import FakeService

JSON = (b"content-type", b"application/json")
CLOSE = (b"connection", b"close")


class Client:
    """One connection: sends the body's pieces, keeps the answer."""

    def __init__(self, pieces: AsyncIterator[bytes] | list[bytes], *, leaves: bool = False) -> None:
        self._pieces = pieces if isinstance(pieces, list) else None
        self._stream = None if isinstance(pieces, list) else pieces
        self._leaves = leaves
        self.read = 0
        self.read_when_answered: int | None = None
        self.messages: list[Any] = []

    async def receive(self) -> Any:
        if self._pieces is not None and self.read < len(self._pieces):
            self.read += 1
            more = self.read < len(self._pieces) or self._leaves
            return {"type": "http.request", "body": self._pieces[self.read - 1], "more_body": more}
        if self._stream is not None:
            self.read += 1
            return {"type": "http.request", "body": await anext(self._stream), "more_body": True}
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.read_when_answered = self.read
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def code(self) -> str:
        return str(json.loads(b"".join(message.get("body", b"") for message in self.messages))["error"]["code"])


def scope(*headers: tuple[bytes, bytes], path: str = "/v1/segment", version: str = "1.1") -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": version,
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [*headers],
    }


async def call(service: FakeService, client: Client, request: dict[str, Any]) -> None:
    await make_app(service)(request, client.receive, client.send)


def refusing(status: int) -> tuple[FakeService, dict[str, Any]]:
    """A service and a request that it refuses with this status before it reads the body."""
    length = (b"content-length", b"5000000")
    if status == 401:
        return FakeService(tokens=("t",)), scope(JSON, length)
    if status == 404:
        return FakeService(), scope(JSON, length, path="/nope")
    if status == 405:
        return FakeService(), scope(JSON, length, path="/healthz")
    if status == 413:
        return FakeService(), scope(JSON, length)
    if status == 415:
        return FakeService(), scope((b"content-type", b"text/plain"), length)
    full = FakeService()
    full.full = True
    return full, scope(JSON, (b"transfer-encoding", b"chunked"))


REFUSALS = [401, 404, 405, 413, 415, 429]


@pytest.mark.parametrize("status", REFUSALS)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_an_early_refusal_waits_for_the_rest_of_the_body_where_the_connection_closes(
    status: int, version: str
) -> None:
    service, request = refusing(status)
    request["http_version"] = version
    if version == "1.1":
        request["headers"].append(CLOSE)
    client = Client([b"x" * 1000] * 50)
    await call(service, client, request)
    assert (client.status, client.read_when_answered) == (status, 50)


@pytest.mark.parametrize("status", REFUSALS)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_an_early_refusal_is_sent_at_once_where_the_connection_stays(status: int, version: str) -> None:
    service, request = refusing(status)
    request["http_version"] = version
    if version == "1.0":
        request["headers"].append((b"connection", b"Keep-Alive"))
    client = Client([b"x" * 1000] * 50)
    await call(service, client, request)
    assert (client.status, client.read_when_answered) == (status, 0)


async def test_what_is_read_before_a_refusal_is_bounded_in_bytes() -> None:
    service, request = refusing(413)
    request["headers"].append(CLOSE)
    client = Client([b"x" * 1000] * 1000)  # one megabyte; the largest body is 20 kB
    await call(service, client, request)
    assert client.read_when_answered == DRAIN_BODIES * 20


@pytest.mark.parametrize("pause_s", [60.0, 0.01], ids=["stalls", "drips"])
async def test_what_is_read_before_a_refusal_is_bounded_in_time(pause_s: float) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(pause_s)
            yield b"x"

    incoming = IncomingBody(scope(CLOSE, (b"content-length", b"9000")), Client(pieces()).receive)
    async with asyncio.timeout(1):
        await incoming.drain(9000, pause_s=0.1, whole_s=0.3)
    assert incoming.connection_would_be_reset


async def test_so_many_bodies_are_read_before_their_refusal_and_others_are_refused_at_once() -> None:
    service, _ = refusing(429)
    service.config = service.config.model_copy(update={"serving": ServingConfig(max_concurrent_requests=1)})
    app = make_app(service)
    gate = asyncio.Event()

    async def waiting() -> AsyncIterator[bytes]:
        await gate.wait()
        raise AssertionError("not reached: the tasks are cancelled")
        yield b""

    request = scope(JSON, CLOSE, (b"transfer-encoding", b"chunked"))
    drained = [Client(waiting()) for _ in range(middleware.DRAINS)]
    tasks = [asyncio.ensure_future(app({**request}, client.receive, client.send)) for client in drained]
    await asyncio.sleep(0.05)
    assert [client.messages for client in drained] == [[]] * middleware.DRAINS
    late = Client(waiting())
    await app({**request}, late.receive, late.send)
    assert (late.status, late.read) == (429, 0)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    again = Client([b"x"] * 3)
    await app({**request}, again.receive, again.send)
    assert again.read_when_answered == 3


async def test_headers_over_their_bound_are_refused_before_authentication() -> None:
    service = FakeService(tokens=("t",))
    client = Client([b""])
    await call(service, client, scope((b"authorization", b"x" * 70_000)))
    assert (client.status, client.code) == (413, "too_large")


@pytest.mark.parametrize(("given", "kept"), [(b"a" * 128, 128), (b"a" * 5000, 128), (b"", 32)])
async def test_a_request_id_has_at_most_128_characters(given: bytes, kept: int) -> None:
    client = Client([b""])
    await call(FakeService(), client, {**scope((b"x-request-id", given), path="/healthz"), "method": "GET"})
    (echoed,) = [value for name, value in client.messages[0]["headers"] if name.lower() == b"x-request-id"]
    assert len(echoed) == kept


async def test_a_client_that_leaves_in_its_body_is_counted_as_such(caplog: pytest.LogCaptureFixture) -> None:
    service = FakeService()
    await call(service, Client([b"{"], leaves=True), scope(JSON, (b"content-length", b"900")))
    assert service.answers == [("/v1/segment", 499, None)]
    assert not [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]


async def test_a_request_that_is_cancelled_is_counted_as_one_whose_client_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = FakeService()

    async def never() -> AsyncIterator[bytes]:
        await asyncio.sleep(60)
        yield b""

    client = Client(never())
    task = asyncio.ensure_future(call(service, client, scope(JSON, (b"content-length", b"900"))))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait([task], timeout=1)
    assert task.cancelled()
    assert service.answers == [("/v1/segment", 499, None)]
    assert not [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]


async def test_a_body_below_the_least_rate_fails_after_the_pause() -> None:
    async def dripping() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.02)
            yield b" "

    service = FakeService()
    serving = ServingConfig(body_pause_s=0.2, min_body_rate=1000)
    service.config = service.config.model_copy(update={"serving": serving})
    client = Client(dripping())
    async with asyncio.timeout(2):
        await call(service, client, scope(JSON, (b"content-length", b"900")))
    assert (client.status, client.code) == (504, "timeout")
