"""Describes the fields of a pydantic model in the keywords of JSON Schema.

The form, the columns of a manifest and the flags of the command line are made from it, so none of them repeats a field.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, TypedDict

from pydantic import BaseModel

JsonType = Literal["string", "number", "integer", "boolean", "array", "object"]


class FieldSchema(TypedDict, total=False):
    """The keywords of one field. Source: JSON Schema 2020-12, as pydantic writes it."""

    type: JsonType
    format: str
    description: str
    default: object
    enum: list[str]
    minimum: float
    maximum: float
    exclusiveMinimum: float
    items: FieldSchema
    additionalProperties: FieldSchema
    anyOf: list[FieldSchema]


@cache
def field_schemas(model: type[BaseModel]) -> dict[str, FieldSchema]:
    """Return the JSON Schema of each field of a model.

    Returns:
        The keywords of each field, by the field's name, in the model's order. A union has the keywords of its first
        member, so "number or null" is a number.
    """
    properties: dict[str, FieldSchema] = model.model_json_schema()["properties"]
    return {name: _of_first_member(schema) for name, schema in properties.items()}


def _of_first_member(schema: FieldSchema) -> FieldSchema:
    return {**schema["anyOf"][0], **schema} if "anyOf" in schema else schema
