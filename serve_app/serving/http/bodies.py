"""HTTP bodies, JSON or multipart, into a SegmentRequest. Knows Starlette; knows no Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.datastructures import Headers
from starlette.requests import Request

from serve_app.errors import InvalidRequest, UnsupportedMediaType
from serve_app.schemas.requests import EntitiesRequest, SegmentRequest, parse_entities_request, parse_request
from serve_app.serving.http import json_text
from serve_app.serving.http.body_stream import Reading, read_body
from serve_app.serving.http.forms import read_form

Message = TypeVar("Message")


def media_type(headers: Headers) -> str:
    """The body's media type, without parameters, in lower case; empty if there is none."""
    return headers.get("content-type", "").split(";")[0].strip().lower()


async def read_segment_request(request: Request, reading: Reading) -> SegmentRequest:
    """Read the body of `POST /v1/segment`.

    Bounds: see `read_body` for its arrival, `json_text.loads` and `read_form` for its parsing, `parse_request` for its
    checks. JSON is parsed and checked in a thread, the large parts of a form are copied, not parsed.

    Raises:
        UnsupportedMediaType: neither JSON nor multipart, or compressed.
        InvalidRequest: not readable as what it says it is, or fields are wrong.
        TooLarge: the body, a list of it, or the number of images, is over its limit.
        DeadlineExceeded: the body does not come in time.
    """
    kind = _plain_media_type(request.headers)
    if kind == "multipart/form-data":
        body = await read_body(request, reading)
        return parse_request(await read_form(request.headers, body, reading.limits))
    if not _is_json(kind):
        raise UnsupportedMediaType("the Content-Type is neither application/json nor multipart/form-data")
    return await _read_json(request, reading, parse_request)


async def read_entities_request(request: Request, reading: Reading) -> EntitiesRequest:
    """Read the body of `POST /v1/entities`.

    Bounds: see `read_body` and `json_text.loads`.

    Raises:
        UnsupportedMediaType: the body does not say that it is JSON.
        InvalidRequest: it is no JSON object, or fields are wrong.
        TooLarge: it is over the limit, or has too many values.
        DeadlineExceeded: it does not come in time.
    """
    if not _is_json(_plain_media_type(request.headers)):
        raise UnsupportedMediaType("the Content-Type is not application/json")
    return await _read_json(request, reading, parse_entities_request)


async def _read_json(request: Request, reading: Reading, parse: Callable[[object], Message]) -> Message:
    body = await read_body(request, reading)
    _check_charset(request.headers, body)

    def parsed() -> Message:
        value = json_text.loads(body, "the body")
        if not isinstance(value, dict):
            raise InvalidRequest("the body must be a JSON object")
        return parse(value)

    return await asyncio.to_thread(parsed)


def _plain_media_type(headers: Headers) -> str:
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in {"", "identity"}:
        raise UnsupportedMediaType(f"the Content-Encoding {coding[:40]!r} is not read; send the body as it is")
    return media_type(headers)


def _check_charset(headers: Headers, body: bytes) -> None:
    """Refuse JSON that says it is not Unicode: read as UTF-8, some of its bytes could be another text."""
    charset = headers.get("content-type", "").lower().partition("charset=")[2].split(";")[0].strip(" \t\"'")
    if charset and not charset.startswith("utf") and not body.isascii():
        raise InvalidRequest(f"the body is JSON of the charset {charset[:40]!r}; JSON is UTF-8")


def _is_json(kind: str) -> bool:
    return kind == "application/json" or kind.endswith("+json")
