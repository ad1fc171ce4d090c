"""Bytes on a connection: the guard and the routes behind uvicorn, which is the server inside Ray's proxy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn

from serve_app.serving.http.proxy_guard import PAUSE_S
from serve_app.serving.http.routes import make_app
from tests.serving.http.test_proxy_guard import guarded
from tests.serving.http.test_routes import FakeService, body

JOB = json.dumps(body()).encode()
CONTINUE = b"HTTP/1.1 100 Continue"


@asynccontextmanager
async def serving(service: FakeService) -> AsyncIterator[int]:
    """Serve on a free port of 127.0.0.1; yields it."""
    config = uvicorn.Config(guarded(make_app(service)), port=0, log_config=None, lifespan="off", access_log=False)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    running = asyncio.ensure_future(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running


def head(path: str, length: int, *lines: str, version: str = "1.1", kind: str = "application/json") -> bytes:
    """A request up to its body."""
    first = [f"POST {path} HTTP/{version}", "Host: x", f"Content-Type: {kind}", f"Content-Length: {length}"]
    return "\r\n".join([*first, *lines, "", ""]).encode()


async def read_until_closed(reader: asyncio.StreamReader, wait_s: float = 10.0) -> bytes:
    got = b""
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            while chunk := await reader.read(65536):
                got += chunk
    return got


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (head("/v1/segment", 70_000_000, "Expect: 100-continue"), 413),
        (head("/v1/segment", 9, "Expect: 100-continue", kind="text/plain"), 415),
        (head("/v1/entities", 9, "Expect: 100-continue", kind="multipart/form-data; boundary=b"), None),
        (head("/v1/segment", 9, "Expect: 100-continue", "Content-Encoding: gzip"), 415),
        (head("/nope", 70_000_000, "Expect: 100-continue"), 404),
        (head("/v1/segment?threshold=1", 70_000_000, "Expect: 100-continue"), 400),
    ],
    ids=["413", "415", "small form", "compressed", "404", "query"],
)
async def test_a_body_is_not_asked_for_where_it_is_refused(request_head: bytes, status: int | None) -> None:
    async with serving(FakeService()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_head)
        got = await read_until_closed(reader, 10.0 if status else 1.0)
        writer.close()
    if status is None:  # not held: a small form is asked for, whatever comes of it
        assert got
    else:
        assert got.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"\r\nconnection: close\r\n" in got.lower()
        assert CONTINUE not in got


@pytest.mark.parametrize("length", [len(JOB), 17_000_000], ids=["small", "held"])
async def test_a_body_that_is_taken_is_asked_for(length: int) -> None:
    service = FakeService()
    limits = service.config.limits.model_copy(update={"max_body_bytes": 20_000_000})
    service.config = service.config.model_copy(update={"limits": limits})
    async with serving(service) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head("/v1/segment", length, "Expect: 100-continue", "Connection: close"))
        begin = asyncio.get_running_loop().time()
        assert (await reader.readline()).startswith(CONTINUE)
        if length > len(JOB):
            assert asyncio.get_running_loop().time() - begin >= PAUSE_S
        writer.write(JOB + b" " * (length - len(JOB)))
        got = await read_until_closed(reader)
        writer.close()
    assert b"HTTP/1.1 200 OK" in got


async def test_lines_to_an_old_client_come_with_a_length_and_not_in_chunks() -> None:
    async with serving(FakeService()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head("/v1/segment", len(JOB), "Accept: application/x-ndjson", version="1.0") + JOB)
        got = await read_until_closed(reader)
        writer.close()
    answer_head, _, lines = got.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in answer_head.lower()
    assert f"content-length: {len(lines)}".encode() in answer_head.lower()
    assert [json.loads(line)["event"] for line in lines.splitlines()] == ["entities", "result"]


async def test_a_connection_stays_open_over_refusals() -> None:
    async with serving(FakeService()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        statuses = []
        for path in ("/v1/segment/", "/v1/segment?a=1", "/v1/segment", "/healthz"):
            writer.write(head(path, len(JOB)) + JOB)
            answer_head = await reader.readuntil(b"\r\n\r\n")
            length = int(answer_head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            statuses.append(int(answer_head.split(b" ")[1]))
        writer.close()
    assert statuses == [404, 400, 200, 405]
