"""The types of the documents as the service builds them: plain dicts.

The models in `documents` check documents that come in, at the client and in tests. The service does not build them,
because that would take longer than its own work. A test compares each typed dict with its model, key by key.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from serve_app.errors import GensegError
from serve_app.schemas.verdict import EntityStatus, ReferenceStatus


class RleDict(TypedDict):
    """COCO compressed RLE; `size` is [height, width]. Source: pycocotools.mask."""

    size: list[int]
    counts: str


class RingDict(TypedDict):
    """One closed outline: `points` are [x, y] in pixels; `hole` is true for an inner ring."""

    points: list[list[float]]
    hole: bool


class ErrorDict(TypedDict):
    """An error: its code, a message, and the field of the request that caused it."""

    code: str
    message: str
    field: str | None


class ErrorAnswerDict(TypedDict):
    """The answer to a request that failed."""

    error: ErrorDict


class ObjectDict(TypedDict):
    """One object that was found. The request's `mask_format` decides which mask key it has, if any."""

    object_id: str
    label: str
    bbox: list[int]
    score: float
    mask_rle: NotRequired[RleDict]
    mask_polygons: NotRequired[list[RingDict]]
    mask_png: NotRequired[str]


class SegmentedDict(TypedDict):
    """The objects of one image, as the segmenter returns them. If it failed, `objects` is null and `error` says why."""

    width: int
    height: int
    objects: list[ObjectDict] | None
    presence: dict[str, float]
    error: ErrorDict | None
    overlay: NotRequired[str | None]


class ImageDict(SegmentedDict):
    """The objects of one image in a result document; `path` is the image's name or path from the request."""

    path: str


class ModelsDict(TypedDict):
    """The configured names of the models. `text_parser` is also named if the caller named the entities."""

    text_parser: str
    segmentation: str


class TimingsDict(TypedDict):
    """Durations of the stages in milliseconds. The stages overlap.

    `parse`: from the call of the parser until it returns the entities; 0 if the caller named the entities.
    `segment`: from the first call of the segmenter until the last image is done, including the wait for the entities.
    `total`: the whole request.
    """

    parse: float
    segment: float
    total: float


class DroppedDict(TypedDict):
    """A phrase of the parser that the service did not look for, and the reason.

    The reasons: the phrase is a term of the entity filter, has a word that is not in the prompt, names an image, is too
    long, or cannot be read by the segmenter; or there are too many entities.
    """

    entity: str
    reason: str


class MetaDict(TypedDict):
    """How the document was made.

    `thresholds` has the threshold of each entity that has one of its own. `unused_thresholds` are the names in the
    request's `thresholds` that are not entities of the document.
    """

    request_id: str
    models: ModelsDict
    threshold: float
    mask_threshold: float
    thresholds: dict[str, float]
    unused_thresholds: list[str]
    dropped: list[DroppedDict]
    timings_ms: TimingsDict


class ResultDict(TypedDict):
    """The answer of `POST /v1/segment`. Its images are in the order of the request."""

    prompt: str
    entities: list[str]
    contextual_images: list[ImageDict]
    generated_image: ImageDict | None
    verdict: VerdictDict | None
    box_format: Literal["xyxy"]
    coordinate_unit: Literal["pixels"]
    meta: MetaDict


class EntitiesDict(TypedDict):
    """The answer of `POST /v1/entities`."""

    entities: list[str]
    dropped: list[DroppedDict]


def error_body(error: GensegError) -> ErrorDict:
    """Convert an error into the document that users see."""
    return {"code": error.code, "message": error.message, "field": error.field}


def images_of(document: ResultDict) -> list[ImageDict]:
    """Return the images of a result: the contextual ones in order, then the generated one if there is one."""
    generated = document["generated_image"]
    return [*document["contextual_images"], *([] if generated is None else [generated])]


class BareDict(TypedDict):
    """An entity's noun without its adjectives, such as "sofa" for "blue sofa", and how many of it were found."""

    entity: str
    found: int


class EntityVerdictDict(TypedDict):
    """How many of one entity the prompt asks for, and how many the generated image shows."""

    entity: str
    asked: int | None
    exact: bool
    asked_as: str | None
    sources: list[int]
    found: int | None
    status: EntityStatus
    objects: list[str]
    bare: BareDict | None


class ReferenceVerdictDict(TypedDict):
    """Whether one object of a contextual image is in the generated image."""

    image: int | None
    object_id: str | None
    individual: int | None
    match: str | None
    similarity: float | None
    margin: float | None
    status: ReferenceStatus


class OverlapDict(TypedDict):
    """Two objects in one image that have different labels but may be the same thing."""

    image: str
    objects: list[str]
    iou: float


class VerdictScoresDict(TypedDict):
    """The verdict in numbers: shares in [0, 1] and a mean cosine (`identity`); null if nothing could be judged."""

    entities: float | None
    identity: float | None
    collapsed: float | None


class IdentityDict(TypedDict):
    """The model that compared individuals, and its settings."""

    model: str
    pooling: str
    crop: str
    threshold: float


class VerdictDict(TypedDict):
    """Whether each thing that the prompt asks for is in the generated image."""

    arrived: bool | None
    entities: list[EntityVerdictDict]
    references: list[ReferenceVerdictDict]
    overlaps: list[OverlapDict]
    scores: VerdictScoresDict
    reasons: list[str]
    identity: IdentityDict | None
