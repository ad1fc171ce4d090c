"""Servers with scripted answers: one speaks HTTP, the other sends raw bytes that break it."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

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
            async with request.form() as form:
                for key, value in form.multi_items():
                    kept = (value.filename, await value.read()) if isinstance(value, UploadFile) else value
                    fields.setdefault(key, []).append(kept)
        elif kind == "application/json":
            fields = await request.json()
        self.seen.append(Seen(request.method, request.url.path, dict(request.headers), fields))
        return await self.answers.popleft()(request)


def _just(response: Response) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return response

    return answer


@contextmanager
def raw_server(serve: Callable[[socket.socket], None], delay_s: float = 0.0) -> Iterator[tuple[str, list[int]]]:
    """A server that does with each connection what no HTTP library would; yields its address and a list of visits."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    visits: list[int] = []
    stop = threading.Event()
    if delay_s:
        listener.close()

    def run() -> None:
        time.sleep(delay_s)
        with socket.create_server(("127.0.0.1", port)) if delay_s else listener as open_listener:
            open_listener.settimeout(0.02)
            while not stop.is_set():
                try:
                    connection, _ = open_listener.accept()
                except TimeoutError:
                    continue
                visits.append(1)
                connection.settimeout(10)
                with connection, suppress(OSError):
                    serve(connection)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}", visits
    finally:
        stop.set()
        thread.join(15)


def read_request(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(65536)
    head, body = head.split(b"\r\n\r\n", 1)
    length = next((int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return body
