"""Define the routes of the HTTP API. This module imports neither Ray nor the models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import AbstractContextManager, ExitStack, aclosing
from typing import Any, Protocol

from fastapi import FastAPI, Request
from pydantic.json_schema import JsonSchemaValue
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Match
from starlette.types import ASGIApp

import serve_app
from serve_app.config.schema import AppConfig, LimitsConfig
from serve_app.errors import GensegError, InvalidRequest
from serve_app.schemas.dicts import EntitiesDict, ErrorAnswerDict, ResultDict
from serve_app.schemas.events import EventDict
from serve_app.schemas.requests import SegmentRequest
from serve_app.serving.documents import result_of
from serve_app.serving.http import bodies, openapi
from serve_app.serving.http.accept import preferred
from serve_app.serving.http.answers import JSON, NDJSON, Chunks, EventStream, lines
from serve_app.serving.http.body_stream import Reading
from serve_app.serving.http.docs_page import POLICY, docs_page
from serve_app.serving.http.json_text import dump_chunks
from serve_app.serving.http.middleware import (
    CLIENT_LEFT,
    RequestChecks,
    error_response,
    internal_error,
    printable,
    route_path,
)
from serve_app.serving.http.page_files import page_files, to_the_page
from serve_app.serving.replica.stage import Stage


class Service(Protocol):
    """The methods that the routes call (see ingress.Ingress)."""

    config: AppConfig

    def admitted(self) -> AbstractContextManager[None]:
        """Admit a request before its body is read, and count it while the block runs; raises Overloaded."""

    def stream(self, request: SegmentRequest, request_id: str) -> AsyncGenerator[EventDict, None]:
        """Run an admitted request; yields and raises the same as `Pipeline.stream`."""

    async def entities(self, prompt: str, request_id: str) -> EntitiesDict:
        """Parse a prompt for an admitted request; raises GensegError."""

    async def missing(self) -> list[str]:
        """Return what is not ready; empty if the service takes requests and both models answer."""

    def tokens(self) -> tuple[str, ...]:
        """Return the accepted bearer tokens; empty for no authentication."""

    def answered(self, route: str, status: int, seconds: float, code: str | None) -> None:
        """Count an answer and its time; `code` is the error's, None without an error."""

    def stage(self, name: str) -> AbstractContextManager[Stage]:
        """Measure a block as a stage of a request's work."""


class _Api(FastAPI):
    """A FastAPI app whose API description contains the current limits."""

    def __init__(self, limits: Callable[[], LimitsConfig], **options: Any) -> None:
        super().__init__(**options)
        self._limits = limits

    def openapi(self) -> JsonSchemaValue:
        return openapi.with_limits(super().openapi(), self._limits())


def make_app(service: Service, *, echo_request_id: bool = True) -> ASGIApp:
    """Build the ASGI app.

    Args:
        service: runs the requests.
        echo_request_id: put X-Request-ID into answers; False if Ray's proxy adds it.
    """
    app = _Api(
        lambda: service.config.limits,
        title="genseg",
        version=serve_app.__version__,
        description=openapi.SUMMARY,
        docs_url=None,  # FastAPI's own pages load scripts from other servers
        redoc_url=None,
        redirect_slashes=False,  # a redirect would contain the Host header, which the caller chooses
        # FastAPI's own spans would begin a second trace beside Ray's, and contain URLs.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(GensegError, _known_error)
    app.add_exception_handler(ClientDisconnect, _client_left)
    app.add_exception_handler(Exception, _unknown_error)
    _add_job_routes(app, service)
    _add_health_routes(app, service)
    app.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)(_docs)
    open_routes = {"", "/healthz", *_add_page(app, service)}
    return RequestChecks(
        app,
        lambda: service.config,
        service.tokens,
        service.answered,
        open_routes=open_routes,
        echo_request_id=echo_request_id,
    )


async def _docs(request: Request) -> Response:
    return HTMLResponse(docs_page(request.app.openapi()), headers={"Content-Security-Policy": POLICY})


async def _known_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GensegError)
    return error_response(request.scope, error)


async def _client_left(request: Request, error: Exception) -> Response:
    """Return a status for the log and the metrics; the client that disconnected never gets it."""
    del request, error
    return Response(status_code=CLIENT_LEFT)


async def _unknown_error(request: Request, error: Exception) -> Response:
    del error  # Starlette raises it again, and the middleware logs it
    return error_response(request.scope, internal_error())


async def _http_error(request: Request, error: Exception) -> Response:
    """Answer unknown routes and wrong methods in the format of all errors."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404 and not route_path(request.scope):
        return to_the_page(request)
    message, headers = str(error.detail).lower(), dict(error.headers or {})
    routes: Sequence[Any] = request.app.routes
    if error.status_code == 404:
        bare = route_path(request.scope).rstrip("/")
        if bare in {route.path for route in routes}:
            message += f"; the route is {bare}, without a slash at the end"
    if error.status_code == 405:
        # Starlette names only the methods of the path's first route.
        matching = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
        headers["Allow"] = ", ".join(sorted({method for route in matching for method in route.methods or ()}))
    body: ErrorAnswerDict = {"error": {"code": "invalid_request", "message": message, "field": None}}
    return JSONResponse(body, error.status_code, headers)


def _add_job_routes(app: FastAPI, service: Service) -> None:
    @app.post("/v1/segment", **openapi.SEGMENT)
    async def segment(request: Request) -> Response:
        _refuse_query(request)
        with ExitStack() as admission:
            admission.enter_context(service.admitted())
            with service.stage("body") as body:
                job = await bodies.read_segment_request(request, _reading(service.config))
                images = len(job.contextual_images) + (job.generated_image is not None)
                body.set(bytes=request.state.incoming.bytes, images=images)
            events = _noted(request, service.stream(job, request.state.request_id))
            if _wants_stream(request):
                if request.scope.get("http_version") == "1.0":  # HTTP/1.0 has no answers of unknown length
                    async with aclosing(events):
                        return Chunks([piece async for piece in lines(await anext(events), events)], NDJSON)
                events = _held(admission.pop_all(), events)
                # Wait for the first event. A request that fails before its first event then gets the error's status.
                return EventStream(await anext(events), events)
            return Chunks(await asyncio.to_thread(dump_chunks, await result_of(events)))

    @app.post("/v1/entities", **openapi.ENTITIES)
    async def entities(request: Request) -> Response:
        _refuse_query(request)
        with service.admitted():
            with service.stage("body") as body:
                job = await bodies.read_entities_request(request, _reading(service.config))
                body.set(bytes=request.state.incoming.bytes)
            return JSONResponse(await service.entities(job.prompt, request.state.request_id))


def _reading(config: AppConfig) -> Reading:
    return Reading(config.limits, config.serving)


def _add_page(app: FastAPI, service: Service) -> Collection[str]:
    """Add the routes of the page for people; return the paths of its files."""
    files = page_files()

    async def answer(request: Request) -> Response:
        file = files.get(route_path(request.scope))
        if file is None or not service.config.serving.page:
            raise HTTPException(404)
        return file.answer(request.headers)

    for path in ("/", "/page/{name:path}"):
        app.api_route(path, methods=["GET", "HEAD"], include_in_schema=False)(answer)
    return files


def _add_health_routes(app: FastAPI, service: Service) -> None:
    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", **openapi.HEALTHZ)
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", **openapi.READYZ)
    async def readyz() -> Response:
        missing = await service.missing()
        if not missing:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "missing": missing}, status_code=503)


async def _held(
    admission: AbstractContextManager[Any], events: AsyncGenerator[EventDict, None]
) -> AsyncGenerator[EventDict, None]:
    """Yield the events, and end the admission after the last one, or when the consumer stops early."""
    with admission:
        async with aclosing(events):
            async for event in events:
                yield event


async def _noted(request: Request, events: AsyncGenerator[EventDict, None]) -> AsyncGenerator[EventDict, None]:
    """Yield the events, and record for the log line how large the result is and how long its parts took."""
    async with aclosing(events):
        async for event in events:
            if event["event"] == "result":
                request.state.notes = _notes(event["result"])
            yield event


def _notes(result: ResultDict) -> list[str]:
    generated = result["generated_image"]
    images = [*result["contextual_images"], *([] if generated is None else [generated])]
    objects = sum(len(image["objects"] or ()) for image in images)
    times = [f"{part} {milliseconds:.0f} ms" for part, milliseconds in result["meta"]["timings_ms"].items()]
    return [f"images {len(images)}, objects {objects}", *times]


def _refuse_query(request: Request) -> None:
    """Refuse query parameters. No code reads them, so a threshold there would silently have no effect."""
    for name in request.query_params:
        shown = printable(name[:60])
        raise InvalidRequest(f"the query parameter '{shown}' is not supported; put every field into the body", shown)


def _wants_stream(request: Request) -> bool:
    accept = ",".join(request.headers.getlist("accept"))
    return preferred(accept, (JSON, NDJSON)) == NDJSON
