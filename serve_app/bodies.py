"""HTTP bodies: read within the limit, JSON or multipart, into a SegmentRequest. Knows Starlette; knows no Ray."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from serve_app.config import LimitsConfig
from serve_app.errors import DeadlineExceeded, InvalidRequest, TooLarge, UnsupportedMediaType
from serve_app.schemas import SegmentRequest, parse_request

_TEXT_FIELDS = {"prompt", "mask_format"}
_JSON_FIELDS = {"entities", "thresholds", "threshold", "mask_threshold", "overlays", "timeout_s"}
_FILE_FIELDS = {"contextual", "generated"}
_EPILOGUE_BYTES = 4096  # what may follow the closing boundary
_FORM_OVERHEAD = 64  # fields besides the files: far more than there are names


@dataclass(frozen=True)
class Reading:
    """How far and how long a body is read.

    Args:
        limits: its `max_body_bytes` counts here.
        pause_s: longest wait for the next bytes.
        whole_s: longest wait for all of them.
    """

    limits: LimitsConfig
    pause_s: float
    whole_s: float


async def read_body(request: Request, reading: Reading) -> bytes:
    """Read the whole body, no further than the limit: a client that stalls or drips would keep a slot for ever.

    Raises:
        TooLarge: by its Content-Length, or while it comes.
        InvalidRequest: the client broke off, or its Content-Length is no number.
        DeadlineExceeded: it does not come in time.
    """
    limit = reading.limits.max_body_bytes
    declared = request.headers.get("content-length")
    if declared is not None:
        if not (declared.isascii() and declared.isdigit()):
            raise InvalidRequest("Content-Length is not a number")
        if int(declared) > limit:
            raise TooLarge(f"the body's {declared} bytes are over the limit of {limit}")
    body = bytearray()
    clock = asyncio.get_running_loop().time
    end = clock() + reading.whole_s
    try:
        async with asyncio.timeout_at(min(end, clock() + reading.pause_s)) as wait:
            async for chunk in request.stream():
                wait.reschedule(min(end, clock() + reading.pause_s))
                body += chunk
                if len(body) > limit:
                    raise TooLarge(f"the body is over the limit of {limit} bytes")
    except ClientDisconnect:
        raise InvalidRequest("the body is incomplete") from None
    except TimeoutError:
        if clock() >= end:
            raise DeadlineExceeded(f"the body did not arrive within {reading.whole_s:g} s") from None
        raise DeadlineExceeded(f"nothing of the body arrived for {reading.pause_s:g} s") from None
    return bytes(body)


def media_type(headers: Headers) -> str:
    """The body's media type, without parameters, in lower case; empty if there is none."""
    return headers.get("content-type", "").split(";")[0].strip().lower()


async def read_segment_request(request: Request, reading: Reading) -> SegmentRequest:
    """Read the body of `POST /v1/segment`.

    Raises:
        UnsupportedMediaType: neither JSON nor multipart.
        InvalidRequest: not readable as what it says it is, or fields are wrong.
        TooLarge: the body, or the number of images, is over its limit.
        DeadlineExceeded: the body does not come in time.
    """
    kind = media_type(request.headers)
    if kind == "multipart/form-data":
        body = await read_body(request, reading)
        return parse_request(await _form_fields(request.headers, body, reading.limits))
    if not _is_json(kind):
        raise UnsupportedMediaType("the Content-Type is neither application/json nor multipart/form-data")
    return await asyncio.to_thread(parse_request, await read_json(request, reading))


def _is_json(kind: str) -> bool:
    return kind == "application/json" or kind.endswith("+json")


async def read_json(request: Request, reading: Reading) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UnsupportedMediaType: the body does not say that it is JSON.
        InvalidRequest: it is no JSON object.
        TooLarge: it is over the limit.
        DeadlineExceeded: it does not come in time.
    """
    kind = media_type(request.headers)
    if not _is_json(kind):
        raise UnsupportedMediaType("the Content-Type is not application/json")
    value = await asyncio.to_thread(_loads, await read_body(request, reading))
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object")
    return value


def _loads(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except RecursionError:
        raise InvalidRequest("the JSON is nested too deep") from None
    except ValueError as error:  # also UnicodeDecodeError
        # Its first words only: the rest may quote the body.
        raise InvalidRequest(f"the body is not JSON: {str(error).split(':')[0]}") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is given twice")
    return value


class _InMemoryParser(MultiPartParser):
    # The body is in memory already and bounded; files on disk would only block the loop.
    spool_max_size = 1 << 40


async def _form_fields(headers: Headers, body: bytes, limits: LimitsConfig) -> dict[str, Any]:
    async def stream() -> AsyncGenerator[bytes, None]:
        step = 1 << 20
        for start in range(0, len(body), step):
            yield body[start : start + step]
            await asyncio.sleep(0)  # parsing is quick, but a large form's would hold up every other request

    boundary = parse_options_header(headers.get("content-type", ""))[1].get(b"boundary")
    if not boundary:
        raise InvalidRequest("the multipart body has no boundary")
    # The parser drops a part that is cut off without a word.
    if b"--" + boundary + b"--" not in body[-len(boundary) - _EPILOGUE_BYTES :]:
        raise InvalidRequest("the multipart body is incomplete: its closing boundary is missing")
    parser = _InMemoryParser(
        headers,
        stream(),
        max_files=limits.max_images + 1,
        max_fields=_FORM_OVERHEAD,
        max_part_size=limits.max_body_bytes,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise TooLarge(f"more than {limits.max_images} images") from None
        raise InvalidRequest(f"the multipart body cannot be read: {error.message}") from None
    except (MultipartParseError, ValueError, KeyError) as error:
        raise InvalidRequest(f"the multipart body cannot be read: {type(error).__name__}") from None
    try:
        return await _request_fields(form)
    finally:
        await form.close()


async def _request_fields(form: FormData) -> dict[str, Any]:
    """Translate form fields into the JSON body's shape."""
    fields: dict[str, Any] = {}
    contextual: list[dict[str, Any]] = []
    for name, value in form.multi_items():
        if name in _FILE_FIELDS:
            if not isinstance(value, UploadFile):
                raise InvalidRequest(f"{name}: must be a file (curl: -F {name}=@image.jpg)", name)
            image = {"data": await value.read(), "name": value.filename or None}
            if name == "contextual":
                contextual.append(image)
                continue
            name, value = "generated_image", image  # type: ignore[assignment]
        elif name not in _TEXT_FIELDS | _JSON_FIELDS:
            raise InvalidRequest(f"{name[:80]}: unknown field", name[:80])
        elif not isinstance(value, str):
            raise InvalidRequest(f"{name}: must be a text field, not a file", name)
        if name in fields:
            raise InvalidRequest(f"{name}: given twice", name)
        fields[name] = _json_field(name, str(value)) if name in _JSON_FIELDS else value
    return {**fields, "contextual_images": contextual}


def _json_field(name: str, text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError):
        raise InvalidRequest(f"{name}: {text[:40]!r} is not JSON", name) from None
