"""The messages between the service and its users: requests, result documents and events of a stream."""

from __future__ import annotations

from serve_app.schemas.base import Fraction, Incoming, MaskFormat, Text, Wire, field_path, invalid_request
from serve_app.schemas.documents import (
    DroppedEntity,
    EntitiesDocument,
    ErrorBody,
    ErrorDocument,
    ImageDocument,
    Meta,
    Models,
    ObjectDocument,
    ResultDocument,
    Ring,
    Rle,
    Timings,
)
from serve_app.schemas.requests import (
    MAX_ENTITIES,
    MAX_IMAGES,
    EntitiesRequest,
    ImageInput,
    RequestOptions,
    SegmentRequest,
    parse_entities_request,
    parse_request,
)

__all__ = [
    "MAX_ENTITIES", "MAX_IMAGES", "DroppedEntity", "EntitiesDocument", "EntitiesRequest", "ErrorBody",
    "ErrorDocument", "Fraction", "ImageDocument", "ImageInput", "Incoming", "MaskFormat", "Meta", "Models",
    "ObjectDocument", "RequestOptions", "ResultDocument", "Ring", "Rle", "SegmentRequest", "Text", "Timings",
    "Wire", "field_path", "invalid_request", "parse_entities_request", "parse_request",
]  # fmt: skip
