"""The HTTP app of `genseg view`: the page, the rows, their documents and images. Its caller reads the results.

It serves this machine only and refuses requests with another `Host`, or with the `Origin` of another site. So no web
page can read the images through a host name that resolves to this machine (DNS rebinding).
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
    """The results that the page shows."""

    def listing(self) -> bytes:
        """Return JSON with `name`, `notes` and `rows`; each row has place, id, group, status, scores and error."""

    def document(self, place: int) -> bytes:
        """Return a row's result document as JSON; raises GensegError if it has none."""

    def picture(self, place: int, role: Role, index: int) -> bytes:
        """Return an image's file; raises GensegError if there is none, with the reason."""


def view_app(viewed: Viewed) -> ASGIApp:
    """Build the app.

    Args:
        viewed: the results; its methods are called in threads.
    """
    files = page_files("view.html")

    async def file(request: Request) -> Response:
        found = files.get(request.url.path)
        if found is None:
            raise HTTPException(404)
        return found.answer(request.headers)

    async def rows(request: Request) -> Response:
        del request
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
    """ASGI middleware that refuses requests from other hosts and sites; see the module's docstring."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if headers.get("host", "").partition(":")[0].lower() not in HOSTS:
                error: GensegError = InvalidRequest("the Host header names another machine; use 127.0.0.1 or localhost")
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
    del request
    assert isinstance(error, GensegError)
    return _refusal(error, error.status if error.status < 500 else 404)


async def _http_error(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, HTTPException)
    return _refusal(InvalidRequest(str(error.detail).lower()), error.status_code)
