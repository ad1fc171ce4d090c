"""The documents with which the service answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.json_schema import JsonSchemaValue

from serve_app.schemas.base import Fraction, Wire
from serve_app.schemas.verdict import Verdict


class DroppedEntity(Wire):
    """A phrase of the parser that the service did not look for, and the reason.

    The reasons: the phrase is a term of the entity filter, has a word that is not in the prompt, names an image, is too
    long, or cannot be read by the segmenter; or there are too many entities.
    """

    entity: str
    reason: str


class EntitiesDocument(Wire):
    """The answer of `POST /v1/entities`."""

    entities: list[str]
    dropped: list[DroppedEntity]


class Rle(Wire):
    """COCO compressed RLE; `size` is [height, width]. Source: pycocotools.mask."""

    size: Annotated[list[int], Field(min_length=2, max_length=2)]
    counts: str


class Ring(Wire):
    """One closed outline: `points` are [x, y] in pixels; `hole` is true for an inner ring."""

    points: list[Annotated[list[float], Field(min_length=2, max_length=2)]]
    hole: bool


class ObjectDocument(Wire):
    """One object that was found. The request's `mask_format` decides which mask key it has, if any."""

    object_id: str
    label: str
    bbox: Annotated[list[int], Field(min_length=4, max_length=4, description="[x1, y1, x2, y2] in pixels.")]
    score: Fraction
    mask_rle: Rle | None = None
    mask_polygons: list[Ring] | None = None
    mask_png: str | None = None


class ErrorBody(Wire):
    """An error: its code, a message, and the field of the request that caused it."""

    code: str
    message: str
    field: str | None = None


class ImageDocument(Wire):
    """The objects of one image. If the image failed, `objects` is null and `error` says why."""

    path: str
    width: int
    height: int
    objects: list[ObjectDocument] | None
    presence: dict[str, Fraction]
    error: ErrorBody | None
    overlay: str | None = None


class Models(Wire):
    """The configured names of the models. `text_parser` is also named if the caller named the entities."""

    text_parser: str
    segmentation: str


class Timings(Wire):
    """Durations of the stages in milliseconds. The stages overlap.

    `parse`: from the call of the parser until it returns the entities; 0 if the caller named the entities.
    `segment`: from the first call of the segmenter until the last image is done, including the wait for the entities.
    `total`: the whole request.
    """

    parse: float
    segment: float
    total: float


def _all_required(schema: JsonSchemaValue) -> None:
    """Mark every key as required in the API's description. Defaults serve only to read documents of older services."""
    schema["required"] = [*schema["properties"]]


class Meta(Wire):
    """How the document was made. Documents of an older service lack the keys that have defaults here."""

    model_config = ConfigDict(json_schema_extra=_all_required)

    request_id: str
    models: Models
    threshold: Fraction
    mask_threshold: Fraction
    thresholds: dict[str, Fraction] = Field(
        default_factory=dict, description="The threshold of each entity that has one of its own, by entity."
    )
    unused_thresholds: list[str] = Field(
        default_factory=list, description="Names in the request's `thresholds` that are not entities of the document."
    )
    dropped: list[DroppedEntity] = Field(
        default_factory=list, description="Phrases of the parser that the service did not look for."
    )
    timings_ms: Timings


class ResultDocument(Wire):
    """The answer of `POST /v1/segment`. Its images are in the order of the request.

    Documents of an older service lack `verdict`.
    """

    model_config = ConfigDict(json_schema_extra=_all_required)

    prompt: str
    entities: list[str]
    contextual_images: list[ImageDocument]
    generated_image: ImageDocument | None
    verdict: Verdict | None = None
    box_format: Literal["xyxy"]
    coordinate_unit: Literal["pixels"]
    meta: Meta


class ErrorDocument(Wire):
    """The answer to a request that failed."""

    error: ErrorBody
