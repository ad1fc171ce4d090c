"""Read the JSON or multipart bodies of requests."""

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
    """Return the body's media type in lower case, without parameters; empty if there is none."""
    return headers.get("content-type", "").split(";")[0].strip().lower()


async def read_segment_request(request: Request, reading: Reading) -> SegmentRequest:
    """Read the body of `POST /v1/segment`.

    For time and memory, see `read_body` for reading, `json_text.loads` and `read_form` for parsing, and `parse_request`
    for checking. JSON is parsed and checked in a thread. The files of a form are copied without parsing.

    Raises:
        UnsupportedMediaType: the body is neither JSON nor multipart, or has a Content-Encoding.
        InvalidRequest: the body does not match its Content-Type, or fields are wrong.
        TooLarge: the body, a list in it, or the number of images is over its limit.
        DeadlineExceeded: the body does not arrive in time.
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

    For time and memory, see `read_body` and `json_text.loads`.

    Raises:
        UnsupportedMediaType: the Content-Type is not JSON, or the body has a Content-Encoding.
        InvalidRequest: the body is not a JSON object, or fields are wrong.
        TooLarge: the body is over its limit, or has too many values.
        DeadlineExceeded: the body does not arrive in time.
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
        raise UnsupportedMediaType(f"the Content-Encoding {coding[:40]!r} is not supported; send the body without it")
    return media_type(headers)


def _check_charset(headers: Headers, body: bytes) -> None:
    """Refuse JSON with a charset that is not Unicode, because its bytes may mean another text in UTF-8."""
    charset = headers.get("content-type", "").lower().partition("charset=")[2].split(";")[0].strip(" \t\"'")
    if charset and not charset.startswith("utf") and not body.isascii():
        raise InvalidRequest(f"the body is JSON in the charset {charset[:40]!r}; send it in UTF-8")


def _is_json(kind: str) -> bool:
    return kind == "application/json" or kind.endswith("+json")
