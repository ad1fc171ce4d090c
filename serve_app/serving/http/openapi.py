"""Describe the routes for `/openapi.json`: bodies, answers, errors. Pure."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Literal, TypedDict, cast

from pydantic import BaseModel, JsonValue, TypeAdapter
from pydantic.json_schema import JsonSchemaValue

from serve_app.config.schema import LimitsConfig
from serve_app.schemas.base import Wire
from serve_app.schemas.documents import EntitiesDocument, ErrorDocument, ResultDocument
from serve_app.schemas.events import EventDocument
from serve_app.schemas.field_schemas import FieldSchema, field_schemas
from serve_app.schemas.requests import EntitiesRequest, RequestOptions, SegmentRequest

SUMMARY = "Every thing a prompt mentions, segmented in every image."

_ERRORS = {
    400: "Not JSON, wrong types, an unknown field or query parameter, text that does not match its charset, no image, "
    "an empty prompt without entities, a number out of range.",
    401: "A token is configured and the request has none, or a wrong one.",
    403: "No token is configured, and the request comes from a page of another site (`Origin`).",
    404: "No such route.",
    405: "The route does not have this method; `Allow` lists its methods.",
    413: "The body, an image's bytes or pixels, the number of images or entities, or the prompt is over its limit.",
    415: "Neither JSON nor multipart, or a Content-Encoding.",
    422: "An image cannot be read (`invalid_image`) or fetched (`fetch_failed`).",
    429: "Too many requests at the same time; see `Retry-After`.",
    500: "Any other failure.",
    502: "The parser's reply is not a list of entities, or was cut off (`invalid_model_reply`); or the parser's own "
    "server refuses or does not answer (`model_unavailable`).",
    503: "Queues are full, or the service is starting or stopping; see `Retry-After`.",
    504: "The deadline passed.",
}


Answers = dict[int | str, JsonSchemaValue]
"""The description and the body's model, by status."""


class Health(Wire):
    """The answer of `GET /healthz`."""

    status: Literal["ok"]


class Ready(Wire):
    """The answer of `GET /readyz` once both models answer."""

    status: Literal["ready"]


class NotReady(Wire):
    """The answer of `GET /readyz` while the service is not ready."""

    status: Literal["not ready"]
    missing: list[str]


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
    """Return a JSON schema with its references resolved, because they would point into another document."""
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
    """Return the schema of an option as a form field; lists and objects are JSON text there (see `_AS_JSON`)."""
    description = schema.get("description", "")
    if schema["type"] in {"array", "object"}:
        description = f"{description} Written as a JSON {schema['type']}."
    field = FieldSchema(type=schema["type"], description=description)
    for keyword in ("enum", "minimum", "maximum", "exclusiveMinimum", "items", "additionalProperties"):
        if keyword in schema:
            field[keyword] = schema[keyword]
    return field


_OPTIONS = field_schemas(RequestOptions)
_AS_JSON: dict[str, JsonValue] = {
    name: {"contentType": "application/json"}
    for name, schema in _OPTIONS.items()
    if schema["type"] in {"array", "object"}
}
_FILE = FieldSchema(type="string", format="binary")
_FORM = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "prompt": {"type": "string"},
        **{name: _in_a_form(schema) for name, schema in _OPTIONS.items()},
        "contextual": {"type": "array", "items": _FILE},
        "generated": _FILE,
    },
}

_SEGMENTED = _answers(ResultDocument, 400, 401, 403, 404, 405, 413, 415, 422, 429, 500, 502, 503, 504)
_SEGMENTED[200]["description"] = "Done: one document, or a stream of events, one JSON object per line."
_SEGMENTED[200]["content"] = {"application/x-ndjson": {"schema": _inline(TypeAdapter(EventDocument))}}

SEGMENT: Route = {
    "summary": "Segment every thing the prompt mentions in every image",
    "description": "With `Accept: application/x-ndjson` the answer streams, one event per line.",
    "responses": _SEGMENTED,
    "response_model": None,
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _inline(TypeAdapter(SegmentRequest))},
                "multipart/form-data": {"schema": cast(JsonValue, _FORM), "encoding": _AS_JSON},
            },
        }
    },
}

ENTITIES: Route = {
    "summary": "List the entities of a prompt, without images",
    "responses": _answers(EntitiesDocument, 400, 401, 403, 404, 405, 413, 415, 429, 500, 502, 503, 504),
    "response_model": None,
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _inline(TypeAdapter(EntitiesRequest))}},
        }
    },
}

HEALTHZ: Route = {
    "summary": "Is the ingress alive?",
    "description": "Needs no token.",
    "response_model": None,
    "responses": _answers(Health, 404, 405, 503),
}

_READY = _answers(Ready, 401, 403, 404, 405)
_READY[503] = {"description": "Not ready; `missing` lists what is not.", "model": NotReady | ErrorDocument}

READYZ: Route = {"summary": "Do both models answer?", "response_model": None, "responses": _READY}


def with_limits(document: JsonSchemaValue, limits: LimitsConfig) -> JsonSchemaValue:
    """Add a configuration's limits to the API description, so that it allows no more than the service does.

    Args:
        document: FastAPI's description of the routes; not changed.
        limits: the limits to add.

    Returns:
        A changed copy.
    """
    document = deepcopy(document)
    bodies = {
        path: document["paths"][path]["post"]["requestBody"]["content"] for path in ("/v1/segment", "/v1/entities")
    }
    segment = bodies["/v1/segment"]
    for kind, images in (("application/json", "contextual_images"), ("multipart/form-data", "contextual")):
        fields = segment[kind]["schema"]["properties"]
        fields["prompt"]["maxLength"] = limits.max_prompt_chars
        fields[images]["maxItems"] = limits.max_images
        fields["thresholds"]["maxProperties"] = 2 * limits.max_entities
        for entities in (fields["entities"], *fields["entities"].get("anyOf", ())):
            if entities.get("type") == "array":
                entities["maxItems"] = limits.max_entities
                entities["items"]["maxLength"] = limits.max_entity_chars
    prompt = bodies["/v1/entities"]["application/json"]["schema"]["properties"]["prompt"]
    prompt.update(minLength=1, maxLength=limits.max_prompt_chars, pattern=r"\S")
    return document
