"""The guard in front of Ray's proxy: what it refuses, cuts and drops."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serve_app.serving.http.proxy_guard import middlewares


async def pass_through(*headers: tuple[bytes, bytes]) -> tuple[list[tuple[bytes, bytes]] | None, list[Any]]:
    """Send a request; returns the headers that reached the proxy, None if none did, and the answer."""
    reached: list[Any] = []
    answer: list[Any] = []

    async def proxy(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["headers"])

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        answer.append(message)

    (middleware,) = middlewares()
    guard = middleware.cls(proxy, *middleware.args, **middleware.kwargs)
    await guard({"type": "http", "method": "GET", "path": "/", "headers": [*headers]}, receive, send)
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
    assert (error["code"], error["message"]) == ("invalid_request", f"the header {name.decode()} is not UTF-8")


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


async def test_headers_over_their_bound_go_no_further() -> None:
    reached, answer = await pass_through((b"x-long", b"x" * 70_000))
    assert (reached, answer[0]["status"]) == (None, 413)


async def test_what_is_no_http_passes() -> None:
    seen: list[str] = []

    async def proxy(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    (middleware,) = middlewares()
    guard: Any = middleware.cls(proxy)
    await guard({"type": "lifespan"}, None, None)
    assert seen == ["lifespan"]
