"""The HTTP side of `genseg view`: the page, the rows, their documents and pictures. Knows Starlette; reads no results.

For this machine only: a request whose `Host` is another name, or whose `Origin` is a page of another site, is refused,
so that no web page can read the pictures through a name that leads here.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.errors import ForeignOrigin, GensegError, InvalidRequest
from serve_app.schemas.dicts import ErrorAnswerDict, error_body
from serve_app.schemas.events import Role
from serve_app.serving.http.origin import foreign_origin
from serve_app.serving.http.page_files import SECURITY_HEADERS, page_files

HOSTS = ("127.0.0.1", "localhost")


class Viewed(Protocol):
    """What is looked at."""

    def listing(self) -> bytes:
        """JSON: `name`, `notes` and `rows`, each with place, id, group, status, scores and error."""

    def document(self, place: int) -> bytes:
        """JSON: a row's result document; raises GensegError where it has none."""

    def picture(self, place: int, role: Role, index: int) -> bytes:
        """A picture's file; raises GensegError, whose message says why there is none."""


def view_app(viewed: Viewed) -> ASGIApp:
    """Build the app.

    Args:
        viewed: read in threads.
    """
    files = page_files("view.html")

    async def file(request: Request) -> Response:
        found = files.get(request.url.path)
        if found is None:
            raise HTTPException(404)
        return found.answer(request.headers)

    async def rows(request: Request) -> Response:
        return _private(await asyncio.to_thread(viewed.listing), "application/json")

    async def document(request: Request) -> Response:
        content = await asyncio.to_thread(viewed.document, request.path_params["place"])
        return _private(content, "application/json")

    async def picture(request: Request) -> Response:
        place, index = request.path_params["place"], request.path_params["index"]
        role: Role = "generated" if request.path_params["role"] == "generated" else "contextual"
        content = await asyncio.to_thread(viewed.picture, place, role, index)
        return _private(content, "application/octet-stream")

    routes = [
        Route("/", file),
        Route("/page/{name:path}", file),
        Route("/rows.json", rows),
        Route("/rows/{place:int}/document.json", document),
        Route("/rows/{place:int}/{role}/{index:int}", picture),
    ]
    app = Starlette(routes=routes, exception_handlers={GensegError: _known_error, HTTPException: _http_error})
    app.router.redirect_slashes = False
    return _ThisMachineOnly(app)


class _ThisMachineOnly:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if headers.get("host", "").partition(":")[0].lower() not in HOSTS:
                error: GensegError = InvalidRequest("the Host is another machine's name")
            elif foreign_origin(headers) is not None:
                error = ForeignOrigin("a page of another origin may not look at these results")
            else:
                await self._app(scope, receive, send)
                return
            await _refusal(error, 403)(scope, receive, send)


def _private(content: bytes, media_type: str) -> Response:
    return Response(content, headers={**SECURITY_HEADERS, "Cache-Control": "no-store"}, media_type=media_type)


def _refusal(error: GensegError, status: int) -> Response:
    body: ErrorAnswerDict = {"error": error_body(error)}
    return JSONResponse(body, status, SECURITY_HEADERS)


async def _known_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GensegError)
    return _refusal(error, error.status if error.status < 500 else 404)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _refusal(InvalidRequest(str(error.detail).lower()), error.status_code)
