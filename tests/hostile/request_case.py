"""One hostile HTTP request, and the request that all of them are a slip away from."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from tests.hostile.corpus import encoded, picture

Outcome = tuple[int, str | None]
"""Status and error code; the code is None for an answer that is no error, or none of the service (its HTTP server's
own). Status 0: the connection was closed without an answer."""

OK: Outcome = (200, None)
INVALID: Outcome = (400, "invalid_request")
TOO_LARGE: Outcome = (413, "too_large")
MEDIA_TYPE: Outcome = (415, "unsupported_media_type")
NO_IMAGE: Outcome = (422, "invalid_image")
NOT_FETCHED: Outcome = (422, "fetch_failed")
NO_HTTP: Outcome = (400, None)  # the HTTP server's own refusal of what is not HTTP
HUNG_UP: Outcome = (0, None)

SEGMENT = "/v1/segment"
ENTITIES = "/v1/entities"
JSON = (("Content-Type", "application/json"),)

PNG = encoded(picture(), "PNG")
PNG_BASE64 = base64.b64encode(PNG).decode("ascii")


@dataclass(frozen=True)
class RequestCase:
    """A request and what may come of it.

    Attributes:
        name: unique.
        method: HTTP method, sent as written.
        path: request target, sent as written.
        headers: names and values in order, sent as written (latin-1). Content-Length is added where neither it nor
            Transfer-Encoding is among them.
        body: the body's bytes; framed in chunks by the sender if `chunked`.
        expected: every right outcome.
        chunked: send the body in chunks, without Content-Length.
    """

    name: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    expected: frozenset[Outcome]
    chunked: bool = False


def job(**changes: Any) -> dict[str, Any]:
    """Write the JSON body of a right job, with changes; `...` as a value leaves a field out."""
    fields = {"prompt": "A dog", "entities": ["dog"], "generated_image": {"data": PNG_BASE64, "name": "g.png"}}
    return {key: value for key, value in {**fields, **changes}.items() if value is not ...}


def post(
    name: str,
    body: bytes,
    *expected: Outcome,
    path: str = SEGMENT,
    headers: tuple[tuple[str, str], ...] = JSON,
    chunked: bool = False,
) -> RequestCase:
    """Write a POST with the given bytes."""
    return RequestCase(name, "POST", path, headers, body, frozenset(expected), chunked)


def post_job(name: str, *expected: Outcome, **changes: Any) -> RequestCase:
    """Write a job as JSON, a few fields changed."""
    return post(name, json.dumps(job(**changes)).encode(), *expected)
