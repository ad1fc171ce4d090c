"""Documents as the service builds and sends them: plain dicts, typed.

The models of `documents` check what comes in, at the client and in tests; building them for every object would cost the
service more than the work. A test holds each typed dict equal to its model, key by key.
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
    """One closed outline: `points` are [x, y] pixels; `hole` tells an inner ring from an outer one."""

    points: list[list[float]]
    hole: bool


class ErrorDict(TypedDict):
    """What went wrong and where."""

    code: str
    message: str
    field: str | None


class ErrorAnswerDict(TypedDict):
    """The one shape of every error's answer."""

    error: ErrorDict


class ObjectDict(TypedDict):
    """One found instance, with the mask key of the request's `mask_format`, or none."""

    object_id: str
    label: str
    bbox: list[int]
    score: float
    mask_rle: NotRequired[RleDict]
    mask_polygons: NotRequired[list[RingDict]]
    mask_png: NotRequired[str]


class SegmentedDict(TypedDict):
    """One image's objects as the segmenter answers them; after a failure `objects` is null and `error` says why."""

    width: int
    height: int
    objects: list[ObjectDict] | None
    presence: dict[str, float]
    error: ErrorDict | None
    overlay: NotRequired[str | None]


class ImageDict(SegmentedDict):
    """The same in a result: with what the caller called the image."""

    path: str


class ModelsDict(TypedDict):
    """The models' names."""

    text_parser: str
    segmentation: str


class TimingsDict(TypedDict):
    """How long the stages took, in milliseconds; they overlap.

    `parse`: from the call of the parser until the entities are there; 0 where the caller named the entities.
    `segment`: from the first call of the segmenter until the last image is done; this includes the wait for the
    entities. `total`: the whole request.
    """

    parse: float
    segment: float
    total: float


class DroppedDict(TypedDict):
    """What the parser named and the service did not look for, and why.

    A term of the entity filter, a name of an image, a phrase that the segmenter cannot read, or one beyond the limit of
    entities.
    """

    entity: str
    reason: str


class MetaDict(TypedDict):
    """How the document came about.

    `models` names the models that did the work. `thresholds` are the entities' own thresholds that were in force, and
    `unused_thresholds` the names in the request's `thresholds` that are no entity of the document.
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
    """The answer of `POST /v1/segment`, images in the order of the request."""

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
    """Write an error the one way that users see it."""
    return {"code": error.code, "message": error.message, "field": error.field}


def images_of(document: ResultDict) -> list[ImageDict]:
    """List a result's images, contextual ones first."""
    generated = document["generated_image"]
    return [*document["contextual_images"], *([] if generated is None else [generated])]


class BareDict(TypedDict):
    """What was found of an entity without its adjectives."""

    entity: str
    found: int


class EntityVerdictDict(TypedDict):
    """What was asked of one entity, and what the generated image shows of it."""

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
    """What became of one object of a contextual image."""

    image: int | None
    object_id: str | None
    individual: int | None
    match: str | None
    similarity: float | None
    margin: float | None
    status: ReferenceStatus


class OverlapDict(TypedDict):
    """Two objects of one image and of different labels that may be one thing."""

    image: str
    objects: list[str]
    iou: float


class VerdictScoresDict(TypedDict):
    """The verdict in numbers: shares in [0, 1], and a mean cosine (`identity`); null where nothing could be judged."""

    entities: float | None
    identity: float | None
    collapsed: float | None


class IdentityDict(TypedDict):
    """The model that compared individuals, and how."""

    model: str
    pooling: str
    crop: str
    threshold: float


class VerdictDict(TypedDict):
    """Did each thing that the prompt asks for arrive?"""

    arrived: bool | None
    entities: list[EntityVerdictDict]
    references: list[ReferenceVerdictDict]
    overlaps: list[OverlapDict]
    scores: VerdictScoresDict
    reasons: list[str]
    identity: IdentityDict | None
