"""Addresses, secrets, proxies, health; many calls at once."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from serve_app import errors
from serve_app.client import AsyncClient, Client, ConnectionFailed, InvalidAnswer
from tests.client.service import Service, error_document, result_document


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
def test_ready_is_no_false_where_the_address_is_wrong(
    ask: Any, service: Service, response: Response, kind: Any
) -> None:
    service.will(response)
    with pytest.raises(kind):
        ask(service.url, "ready")


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("url", ["127.0.0.1:8000", "localhost", "ftp://host", "http://", "", "http://h:x"])
def test_client_refuses_an_address_that_is_none(kind: Any, url: str) -> None:
    with pytest.raises(errors.ConfigError, match=r"^base_url: "):
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


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
def test_loopback_is_reached_past_the_proxies_of_the_environment(
    ask: Any, service: Service, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    service.will(JSONResponse({"entities": [], "dropped": []}))
    assert ask(service.url, "entities", "fog").entities == []


@pytest.mark.parametrize("url", ["http://service.invalid", "https://service.invalid", "http://127.0.0.1:9"])
def test_transport_takes_the_place_of_the_network(url: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"entities": [str(request.url)], "dropped": []})

    async def ask_async() -> list[str]:
        async with AsyncClient(url, transport=httpx.MockTransport(answer)) as client:
            return (await client.entities("fog")).entities

    with Client(url, transport=httpx.MockTransport(answer)) as client:
        assert client.entities("fog").entities == [url + "/v1/entities"]
    assert asyncio.run(ask_async()) == [url + "/v1/entities"]


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


def test_both_clients_have_the_same_methods() -> None:
    def methods(client: type) -> set[str]:
        return {name for name in vars(client) if not name.startswith("_")}

    assert methods(AsyncClient) - {"aclose"} == methods(Client) - {"close"}
