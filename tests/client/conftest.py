"""The scripted server, and one function that calls either client: every test runs with both."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from serve_app.client import AsyncClient, Client
from tests.client.service import Service


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
