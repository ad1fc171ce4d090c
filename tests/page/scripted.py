"""The HTTP API over a real socket, with a service behind it that answers as a script says. No Ray and no models."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from serve_app.config.schema import AppConfig
from serve_app.schemas.requests import SegmentRequest
from serve_app.serving.http.routes import make_app
from tests.conftest import free_port
from tests.serving.http.test_routes import FakeService

Script = Callable[[SegmentRequest], AsyncGenerator[dict[str, Any], None]]


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

    async def stream(self, request: SegmentRequest, request_id: str) -> AsyncGenerator[dict[str, Any], None]:
        self.requests.append(request)
        try:
            async for event in self.script(request):
                yield event
        except (asyncio.CancelledError, GeneratorExit):
            self.left += 1
            raise


async def nothing(request: SegmentRequest) -> AsyncGenerator[dict[str, Any], None]:
    """Finds nothing."""
    for event in events_of(document(request, [])):
        yield event


@contextmanager
def served(service: ScriptedService, *, root_path: str = "") -> Iterator[str]:
    """Serve over HTTP on 127.0.0.1; yields the address.

    Args:
        service: does the work.
        root_path: a prefix below which the routes are, as Ray Serve's `route_prefix`.
    """
    port = free_port()
    app: Any = make_app(service)

    async def prefixed(scope: Any, receive: Any, send: Any) -> None:
        async def sent(message: Any) -> None:
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


def image(path: str, objects: list[dict[str, Any]] | None, size: tuple[int, int] = (64, 48)) -> dict[str, Any]:
    """An image of the result document; `objects` None for one that failed."""
    error = {"code": "internal", "message": "the segmenter failed on this image", "field": None}
    return {
        "path": path,
        "width": size[0],
        "height": size[1],
        "objects": objects,
        "presence": {} if objects is None else {"dog": 0.9},
        "error": error if objects is None else None,
    }


def document(request: SegmentRequest, images: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """A result document of these images, the last of which is the generated one if the request has one."""
    given = [*request.contextual_images, *([request.generated_image] if request.generated_image else [])]
    images = images or [image(each.name or "image", []) for each in given]
    return {
        "prompt": request.prompt,
        "entities": ["dog"],
        "contextual_images": images[:-1] if request.generated_image else images,
        "generated_image": images[-1] if request.generated_image else None,
        "verdict": None,
        "box_format": "xyxy",
        "coordinate_unit": "pixels",
        "meta": {
            "request_id": "scripted",
            "models": {"text_parser": "none", "segmentation": "none"},
            "threshold": 0.5,
            "mask_threshold": 0.5,
            "thresholds": {},
            "unused_thresholds": [],
            "dropped": [],
            "timings_ms": {"parse": 1.0, "segment": 1.0, "total": 1.0},
        },
        **fields,
    }


def events_of(result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The events of the stream that ends with this document."""
    yield {"event": "entities", "entities": result["entities"], "dropped": result["meta"]["dropped"]}
    for index, each in enumerate(result["contextual_images"]):
        yield {"event": "image", "role": "contextual", "index": index, "image": each}
    if result["generated_image"] is not None:
        yield {"event": "image", "role": "generated", "index": 0, "image": result["generated_image"]}
    yield {"event": "result", "result": result}
