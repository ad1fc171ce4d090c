"""The HTTP API over a real socket, with a service behind it that answers as a script says. No Ray and no models."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from starlette.types import Message, Receive, Scope, Send

from serve_app.config.schema import AppConfig
from serve_app.schemas.dicts import ImageDict, ResultDict
from serve_app.schemas.events import EventDict
from serve_app.schemas.requests import SegmentRequest
from serve_app.serving.http.routes import make_app
from tests.conftest import free_port
from tests.documents import events_of, image, result
from tests.serving.http.test_routes import FakeService

Script = Callable[[SegmentRequest], AsyncGenerator[EventDict, None]]


class ScriptedService(FakeService):
    """Answers each request with the events of `script`; see FakeService for what else can be set.

    Attributes:
        accepted: tokens; empty for no authentication.
        cut: whether answers are cut off where they are now.
        left: requests whose clients left before the end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        """Forget what a test has set, and the requests that came."""
        self.config = AppConfig()
        self.script: Script = nothing
        self.accepted: tuple[str, ...] = ()
        self.not_ready = []
        self.requests = []
        self.cut = False
        self.left = 0

    def tokens(self) -> tuple[str, ...]:
        return self.accepted

    async def stream(self, request: SegmentRequest, request_id: str) -> AsyncGenerator[EventDict, None]:
        self.requests.append(request)
        self.ids.append(request_id)
        try:
            async for event in self.script(request):
                yield event
        except (asyncio.CancelledError, GeneratorExit):
            self.left += 1
            raise


async def nothing(request: SegmentRequest) -> AsyncGenerator[EventDict, None]:
    """Finds nothing."""
    for event in events_of(document(request)):
        yield event


@contextmanager
def served(service: ScriptedService, *, root_path: str = "") -> Iterator[str]:
    """Serve over HTTP on 127.0.0.1; yields the address.

    Args:
        service: does the work.
        root_path: a prefix below which the routes are, as Ray Serve's `route_prefix`.
    """
    port = free_port()
    app = make_app(service)

    async def prefixed(scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if service.cut:
                raise ConnectionError  # the server closes the connection of an answer without an end
            await send(message)

        await app({**scope, "root_path": root_path}, receive, sent)

    server = uvicorn.Server(uvicorn.Config(prefixed, "127.0.0.1", port, lifespan="off", log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}{root_path}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)


def document(request: SegmentRequest, *images: ImageDict, entities: Sequence[str] = ("dog",)) -> ResultDict:
    """A result document of these images, the last of which is the generated one if the request has one.

    Without images, one without objects for each image of the request.
    """
    given = [*request.contextual_images, *([request.generated_image] if request.generated_image else [])]
    contextual = [*images] or [image(each.name or "image", [], presence={"dog": 0.9}) for each in given]
    generated = contextual.pop() if request.generated_image else None
    return result(request.prompt, entities, contextual, generated)
