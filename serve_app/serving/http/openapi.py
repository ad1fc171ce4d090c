"""What `/openapi.json` says of each route: bodies, answers, errors. Data only."""

from __future__ import annotations

from typing import Any, TypedDict, cast

from pydantic import BaseModel, JsonValue, TypeAdapter

from serve_app.schemas.documents import EntitiesDocument, ErrorDocument, ResultDocument
from serve_app.schemas.events import EventDocument
from serve_app.schemas.field_schemas import FieldSchema, field_schemas
from serve_app.schemas.requests import EntitiesRequest, RequestOptions, SegmentRequest

SUMMARY = "Every thing a prompt mentions, segmented in every image."

_ERRORS = {
    400: "Not JSON, wrong types, unknown field, no image, empty prompt without entities, a number out of range.",
    401: "A token is configured and the request has none, or a wrong one.",
    413: "Body, image bytes, pixels, number of images or of entities, or the prompt over its limit.",
    415: "Neither JSON nor multipart.",
    422: "An image cannot be read (`invalid_image`) or fetched (`fetch_failed`).",
    429: "Too many requests under way; see `Retry-After`.",
    500: "Anything else.",
    502: "The parser's reply is not a list of entities, or was cut off (`invalid_model_reply`); or the parser's own "
    "server refuses or does not answer (`model_unavailable`).",
    503: "Queues are full; see `Retry-After`.",
    504: "The deadline passed.",
}


Answers = dict[int | str, dict[str, JsonValue | type[BaseModel]]]
"""By status: a description and the model of the body."""


class Route(TypedDict, total=False):
    """Keyword arguments of FastAPI's `app.get` and `app.post`."""

    summary: str
    description: str
    response_model: None
    responses: Answers
    openapi_extra: dict[str, JsonValue]


def _answers(document: type[BaseModel], *statuses: int) -> Answers:
    return {
        200: {"description": "Done.", "model": document},
        **{status: {"description": _ERRORS[status], "model": ErrorDocument} for status in sorted(statuses)},
    }


def _inline(shape: TypeAdapter[Any]) -> JsonValue:
    """The shape's JSON schema without references, which would have to point into another document."""
    schema = shape.json_schema()
    definitions: dict[str, JsonValue] = schema.pop("$defs", {})

    def resolved(node: JsonValue) -> JsonValue:
        if isinstance(node, dict):
            reference = node.get("$ref")
            if isinstance(reference, str):
                return resolved(definitions[reference.rsplit("/", 1)[-1]])
            return {key: resolved(value) for key, value in node.items()}
        if isinstance(node, list):
            return [resolved(value) for value in node]
        return node

    return resolved(schema)


def _in_a_form(schema: FieldSchema) -> FieldSchema:
    """How an option's value is written as a field of a form: lists and objects are JSON text."""
    description = schema.get("description", "")
    if schema["type"] in {"array", "object"}:
        return {"type": "string", "description": f"{description} Written as a JSON {schema['type']}."}
    field = FieldSchema(type=schema["type"], description=description)
    for keyword in ("enum", "minimum", "maximum", "exclusiveMinimum"):
        if keyword in schema:
            field[keyword] = schema[keyword]
    return field


_FILE = FieldSchema(type="string", format="binary")
_FORM = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "prompt": {"type": "string"},
        **{name: _in_a_form(schema) for name, schema in field_schemas(RequestOptions).items()},
        "contextual": {"type": "array", "items": _FILE},
        "generated": _FILE,
    },
}

_SEGMENTED = _answers(ResultDocument, 400, 401, 413, 415, 422, 429, 500, 502, 503, 504)
_SEGMENTED[200]["description"] = "Done: one document, or a stream of events, one JSON object a line."
_SEGMENTED[200]["content"] = {"application/x-ndjson": {"schema": _inline(TypeAdapter(EventDocument))}}

SEGMENT: Route = {
    "summary": "Segment every thing the prompt mentions in every image",
    "description": "With `Accept: application/x-ndjson` the answer streams, one event a line.",
    "responses": _SEGMENTED,
    "response_model": None,
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _inline(TypeAdapter(SegmentRequest))},
                "multipart/form-data": {"schema": cast(JsonValue, _FORM)},
            },
        }
    },
}

ENTITIES: Route = {
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

HEALTHZ: Route = {"summary": "Is the ingress alive?", "response_model": None}
READYZ: Route = {
    "summary": "Do both models answer?",
    "response_model": None,
    "responses": {503: {"description": "Not yet: `missing` names what."}},
}
