"""The events of a stream: one JSON line each, in the order in which they happen.

First `entities`, then an `image` as each finishes, and last `result`, or `error` at any time. While the segmentation
model is being changed, an image that an older replica answered is segmented once more: then a second `image` event of
the same role and index takes the place of the first. What the `result` says counts.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from pydantic import Field

from serve_app.schemas.base import Wire
from serve_app.schemas.dicts import DroppedDict, ErrorDict, ImageDict, ResultDict
from serve_app.schemas.documents import DroppedEntity, ErrorBody, ImageDocument, ResultDocument

Role = Literal["contextual", "generated"]


class EntitiesEventDocument(Wire):
    """The prompt is read: these things will be looked for."""

    event: Literal["entities"]
    entities: list[str]
    dropped: list[DroppedEntity] = Field(default_factory=list)


class ImageEventDocument(Wire):
    """One image is done; `index` counts within its role. A later event of the same image takes this one's place."""

    event: Literal["image"]
    role: Role
    index: Annotated[int, Field(ge=0)]
    image: ImageDocument


class ResultEventDocument(Wire):
    """The last event: everything, in the order of the request."""

    event: Literal["result"]
    result: ResultDocument


class ErrorEventDocument(Wire):
    """The last event of a request that failed."""

    event: Literal["error"]
    error: ErrorBody


EventDocument = EntitiesEventDocument | ImageEventDocument | ResultEventDocument | ErrorEventDocument


class EntitiesEventDict(TypedDict):
    """An EntitiesEventDocument as the service builds it."""

    event: Literal["entities"]
    entities: list[str]
    dropped: list[DroppedDict]


class ImageEventDict(TypedDict):
    """An ImageEventDocument as the service builds it."""

    event: Literal["image"]
    role: Role
    index: int
    image: ImageDict


class ResultEventDict(TypedDict):
    """A ResultEventDocument as the service builds it."""

    event: Literal["result"]
    result: ResultDict


class ErrorEventDict(TypedDict):
    """An ErrorEventDocument as the service builds it."""

    event: Literal["error"]
    error: ErrorDict


EventDict = EntitiesEventDict | ImageEventDict | ResultEventDict | ErrorEventDict
