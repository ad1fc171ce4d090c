"""What `/openapi.json` says of each route: bodies, answers, errors. Data only."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter

from serve_app.schemas.documents import EntitiesDocument, ErrorDocument, ResultDocument
from serve_app.schemas.events import EventDocument
from serve_app.schemas.requests import EntitiesRequest, SegmentRequest

SUMMARY = "Every thing a prompt mentions, segmented in every image."

_ERRORS = {
    400: "Not JSON, wrong types, unknown field, no image, empty prompt without entities, a number out of range.",
    401: "A token is configured and the request has none, or a wrong one.",
    413: "Body, image bytes, pixels, number of images or of entities over its limit.",
    415: "Neither JSON nor multipart.",
    422: "An image cannot be read (`invalid_image`) or fetched (`fetch_failed`).",
    429: "Too many requests under way; see `Retry-After`.",
    500: "Anything else.",
    502: "The parser's reply is not a list of entities.",
    503: "Queues are full; see `Retry-After`.",
    504: "The deadline passed.",
}


def _answers(document: type[BaseModel], *statuses: int) -> dict[int | str, dict[str, Any]]:
    errors: dict[int | str, dict[str, Any]] = {
        status: {"description": _ERRORS[status], "model": ErrorDocument} for status in sorted(statuses)
    }
    return {200: {"description": "Done.", "model": document}, **errors}


def _inline(shape: TypeAdapter[Any]) -> dict[str, Any]:
    """The shape's JSON schema without references, which would have to point into another document."""
    schema = shape.json_schema()
    definitions = schema.pop("$defs", {})

    def resolved(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return resolved(definitions[node["$ref"].rsplit("/", 1)[-1]])
            return {key: resolved(value) for key, value in node.items()}
        if isinstance(node, list):
            return [resolved(value) for value in node]
        return node

    inlined: dict[str, Any] = resolved(schema)
    return inlined


_FILE = {"type": "string", "format": "binary"}
_FORM = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "prompt": {"type": "string"},
        "entities": {"type": "string", "description": "JSON array of strings."},
        "thresholds": {"type": "string", "description": "JSON object: entity to threshold."},
        "threshold": {"type": "number", "minimum": 0, "maximum": 1},
        "mask_threshold": {"type": "number", "minimum": 0, "maximum": 1},
        "mask_format": {"type": "string", "enum": ["rle", "polygon", "png", "none"]},
        "overlays": {"type": "boolean"},
        "timeout_s": {"type": "number", "exclusiveMinimum": 0},
        "contextual": {"type": "array", "items": _FILE},
        "generated": _FILE,
    },
}

_SEGMENTED = _answers(ResultDocument, 400, 401, 413, 415, 422, 429, 500, 502, 503, 504)
_SEGMENTED[200]["content"] = {
    "application/x-ndjson": {"schema": {**_inline(TypeAdapter(EventDocument)), "description": "One event a line."}}
}

SEGMENT: dict[str, Any] = {
    "summary": "Segment every thing the prompt mentions in every image",
    "description": "With `Accept: application/x-ndjson` the answer streams, one event a line.",
    "responses": _SEGMENTED,
    "response_model": None,
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _inline(TypeAdapter(SegmentRequest))},
                "multipart/form-data": {"schema": _FORM},
            },
        }
    },
}

ENTITIES: dict[str, Any] = {
    "summary": "Read a prompt only",
    "responses": _answers(EntitiesDocument, 400, 401, 413, 415, 429, 500, 502, 503, 504),
    "response_model": None,
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _inline(TypeAdapter(EntitiesRequest))}},
        }
    },
}

HEALTHZ: dict[str, Any] = {"summary": "Is the ingress alive?", "response_model": None}
READYZ: dict[str, Any] = {
    "summary": "Do both models answer?",
    "response_model": None,
    "responses": {503: {"description": "Not yet: `missing` names what."}},
}
