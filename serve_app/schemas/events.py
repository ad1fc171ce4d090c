"""The events of a stream. Each is one line of JSON.

The first event is `entities`. An `image` event follows when an image is done, and `result` is the last event. `error`
may come at any time and ends the stream. While the segmentation model is being changed, an image that an older replica
segmented is segmented again. A second `image` event with the same role and index then replaces the first. The `result`
event has the final images.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from pydantic import Field

from serve_app.schemas.base import Wire
from serve_app.schemas.dicts import DroppedDict, ErrorDict, ImageDict, ResultDict
from serve_app.schemas.documents import DroppedEntity, ErrorBody, ImageDocument, ResultDocument

Role = Literal["contextual", "generated"]


class EntitiesEventDocument(Wire):
    """The prompt has been parsed: `entities` will be looked for."""

    event: Literal["entities"]
    entities: list[str]
    dropped: list[DroppedEntity] = Field(default_factory=list)


class ImageEventDocument(Wire):
    """One image is done. `index` is its index among the images of its role. A later event for it replaces this one."""

    event: Literal["image"]
    role: Role
    index: Annotated[int, Field(ge=0)]
    image: ImageDocument


class ResultEventDocument(Wire):
    """The last event: the whole result document, with the images in the order of the request."""

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
