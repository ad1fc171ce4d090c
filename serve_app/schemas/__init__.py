"""The wire: requests and documents, exactly as users see them."""

from __future__ import annotations

from serve_app.schemas.base import MaskFormat
from serve_app.schemas.documents import (
    EntitiesDocument,
    ErrorBody,
    ErrorDocument,
    ImageDocument,
    ObjectDocument,
    ResultDocument,
)
from serve_app.schemas.requests import EntitiesRequest, ImageInput, SegmentRequest

__all__ = [
    "EntitiesDocument",
    "EntitiesRequest",
    "ErrorBody",
    "ErrorDocument",
    "ImageDocument",
    "ImageInput",
    "MaskFormat",
    "ObjectDocument",
    "ResultDocument",
    "SegmentRequest",
]
