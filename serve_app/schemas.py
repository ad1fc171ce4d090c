"""The wire: requests and documents, exactly as users see them.

Knows shapes and ranges only; opens no file and fetches nothing, except the two `from_file(s)` constructors, which run
in the caller's process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from serve_app.errors import InvalidRequest, TooLarge

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


def _encodable(text: str) -> str:
    # JSON can name half of a surrogate pair ("\\ud800"), which no tokenizer and no answer can carry.
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("has half of a surrogate pair, which is no character") from None
    return text


Text = Annotated[str, AfterValidator(_encodable)]
MaskFormat = Literal["rle", "polygon", "png", "none"]


class Wire(BaseModel):
    """Base of every message: unknown fields are errors, numbers are finite numbers and not strings."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


MAX_IMAGES = 1024
MAX_ENTITIES = 1024
"""The most that any configuration allows (see `LimitsConfig`, whose own numbers are smaller)."""


_TOO_MANY = "too_many"


def _at_most(count: int) -> BeforeValidator:
    """Look at the length of a list or mapping before its items are: each wrong item would be reported at a cost."""

    def check(value: object) -> object:
        if isinstance(value, Sequence | Mapping) and not isinstance(value, str | bytes) and len(value) > count:
            raise PydanticCustomError(
                _TOO_MANY, "{length} items are over the limit of {limit}", {"length": len(value), "limit": count}
            )
        return value

    return BeforeValidator(check)


class Incoming(Wire):
    """Base of what callers send: of many unknown fields only the first is reported."""

    @model_validator(mode="before")
    @classmethod
    def _few_keys(cls, value: object) -> object:
        if isinstance(value, Mapping) and len(value) > len(cls.model_fields):
            unknown = next(str(key) for key in value if key not in cls.model_fields)
            raise PydanticCustomError("unknown_key", "unknown field '{key}'", {"key": _shortened(unknown)})
        return value


class ImageInput(Incoming):
    """One image: exactly one of `data` and `url`.

    `data` is base64 or a `data:` URI; over a handle it may be the file's raw bytes.
    """

    data: str | bytes | None = Field(None, description="The image file: base64 or a `data:` URI.")
    url: Text | None = Field(None, description="http(s) address the server fetches.", max_length=8192)
    name: Text | None = Field(None, description="Echoed as `path`.", max_length=4096)

    @model_validator(mode="before")
    @classmethod
    def _accept_raw_bytes(cls, value: object) -> object:
        if isinstance(value, bytes | bytearray | memoryview):
            return {"data": bytes(value)}
        return value

    @model_validator(mode="after")
    def _one_source(self) -> ImageInput:
        if (self.data is None) == (self.url is None):
            raise ValueError("an image is exactly one of 'data' and 'url'")
        return self

    @classmethod
    def from_file(cls, source: ImageInput | bytes | str | PathLike[str], max_bytes: int | None = None) -> ImageInput:
        """Read an image where the caller is.

        Args:
            source: a path, an http(s) URL (passed on, the server fetches it), the bytes of an image file, or an
                ImageInput, which is returned as it is.
            max_bytes: of a file, no more than one byte over it is read: enough to see that it is too large.

        Raises:
            OSError: the file cannot be read.
        """
        if isinstance(source, ImageInput):
            return source
        if isinstance(source, bytes):
            return cls(data=source)
        text = fspath(source)
        if text.lower().startswith(("http://", "https://")):
            return cls(url=text)
        path = unquote(text.removeprefix("file://")) if text.startswith("file://") else text
        with Path(path).open("rb") as file:
            return cls(data=file.read() if max_bytes is None else file.read(max_bytes + 1), name=text)


class SegmentRequest(Incoming):
    """The job: a prompt (or entities), contextual images, a generated image."""

    prompt: Text = Field("", description="The image-generation prompt.")
    entities: Annotated[list[Text] | None, _at_most(MAX_ENTITIES)] = Field(
        None, description="Given, it bypasses the parser."
    )
    contextual_images: Annotated[list[ImageInput], _at_most(MAX_IMAGES)] = Field(default_factory=list)
    generated_image: ImageInput | None = None
    threshold: Fraction | None = Field(None, description="Objects with a score above it are listed; default 0.5.")
    mask_threshold: Fraction | None = Field(None, description="Mask probability of an object's pixel; default 0.5.")
    thresholds: Annotated[dict[Text, Fraction], _at_most(2 * MAX_ENTITIES)] = Field(
        default_factory=dict, description="Per entity, over `threshold`."
    )
    mask_format: MaskFormat = "rle"
    overlays: bool = Field(False, description="Add `overlay` to each image: a data URI of an annotated JPEG.")
    timeout_s: float | None = Field(None, gt=0, description="Deadline, in seconds; capped by the server.")

    @classmethod
    def from_files(
        cls,
        prompt: str = "",
        contextual: Sequence[ImageInput | bytes | str | PathLike[str]] = (),
        generated: ImageInput | bytes | str | PathLike[str] | None = None,
        **options: Any,
    ) -> SegmentRequest:
        """Build a request from paths, URLs or bytes, read in the caller's process.

        Args:
            prompt: the image-generation prompt.
            contextual: the contextual images, in order.
            generated: the generated image.
            options: further fields of SegmentRequest.

        Raises:
            OSError: a file cannot be read.
            pydantic.ValidationError: an option is unknown or out of range.
        """
        return cls(
            prompt=prompt,
            contextual_images=[ImageInput.from_file(source) for source in contextual],
            generated_image=None if generated is None else ImageInput.from_file(generated),
            **options,
        )


class EntitiesRequest(Incoming):
    """The body of `POST /v1/entities`."""

    prompt: Text


class DroppedEntity(Wire):
    """A term of the parser's reply that the entity filter removed, and why."""

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
    """One closed outline: `points` are [x, y] pixels; `hole` tells an inner ring from an outer one."""

    points: list[Annotated[list[float], Field(min_length=2, max_length=2)]]
    hole: bool


class ObjectDocument(Wire):
    """One found instance; it carries the one mask key of the request's `mask_format`."""

    object_id: str
    label: str
    bbox: Annotated[list[int], Field(min_length=4, max_length=4, description="[x1, y1, x2, y2] in pixels.")]
    score: Fraction
    mask_rle: Rle | None = None
    mask_polygons: list[Ring] | None = None
    mask_png: str | None = None


class ErrorBody(Wire):
    """What went wrong and where."""

    code: str
    message: str
    field: str | None = None


class ImageDocument(Wire):
    """One image's objects. After a failure `objects` is null and `error` says why."""

    path: str
    width: int
    height: int
    objects: list[ObjectDocument] | None
    presence: dict[str, Fraction]
    error: ErrorBody | None
    overlay: str | None = None


class Models(Wire):
    """The models' names."""

    text_parser: str
    segmentation: str


class Timings(Wire):
    """Wall-clock milliseconds: the parse, the slowest image, the whole request."""

    parse: float
    segment: float
    total: float


class Meta(Wire):
    """How the document came about."""

    request_id: str
    models: Models
    threshold: Fraction
    mask_threshold: Fraction
    timings_ms: Timings


class ResultDocument(Wire):
    """The answer of `POST /v1/segment`, images in the order of the request."""

    prompt: str
    entities: list[str]
    contextual_images: list[ImageDocument]
    generated_image: ImageDocument | None
    box_format: Literal["xyxy"]
    coordinate_unit: Literal["pixels"]
    meta: Meta


class ErrorDocument(Wire):
    """The one shape of every error."""

    error: ErrorBody


def parse_request(body: SegmentRequest | Mapping[str, Any]) -> SegmentRequest:
    """Check a request that came over a handle or as JSON.

    Bounds: lists longer than any configuration allows, and objects with more keys than there are fields, are refused by
    their length. So at most some 4,000 faults are collected, whatever is sent: about 20 ms and 10 MB.

    Args:
        body: a SegmentRequest, or a mapping of the JSON body's shape.

    Raises:
        InvalidRequest: names the first field that is wrong.
        TooLarge: a list is longer than any configuration allows.
    """
    if isinstance(body, SegmentRequest):
        return body
    if not isinstance(body, Mapping):
        raise InvalidRequest("the body must be a JSON object")
    try:
        return SegmentRequest.model_validate(dict(body))
    except ValidationError as error:
        raise invalid_request(error) from None


def parse_entities_request(body: Mapping[str, Any]) -> EntitiesRequest:
    """Check the body of `POST /v1/entities`; bounds as of `parse_request`.

    Raises:
        InvalidRequest: names the first field that is wrong.
    """
    try:
        return EntitiesRequest.model_validate(dict(body))
    except ValidationError as error:
        raise invalid_request(error) from None


_LONGEST_KEY = 60  # of a key that callers choose, in messages
_PLAIN_WORDS = {
    "extra_forbidden": "unknown field",
    "missing": "required",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}


def invalid_request(error: ValidationError) -> InvalidRequest | TooLarge:
    """Turn pydantic's report into one line about its first entry, and say how many more there are."""
    first, *others = error.errors(include_url=False, include_context=False, include_input=False)
    field = field_path(first["loc"])
    if first["type"] == _TOO_MANY:
        return TooLarge(f"{field}: {first['msg']}", field)
    text = _PLAIN_WORDS.get(first["type"], first["msg"])
    text = text.removeprefix("Value error, ").replace("items after validation", "characters")
    more = f" (and {len(others)} more)" if others else ""
    return InvalidRequest(f"{field}: {text}{more}" if field else f"{text}{more}", field or None)


def field_path(location: Sequence[str | int]) -> str:
    """Write a location the way users read it: ("contextual_images", 1, "data") is "contextual_images[1].data"."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part not in {"str", "bytes"}:  # the branch of a union, not a field
            part = _shortened(part)
            path += f".{part}" if path else part
    return path


def _shortened(key: str) -> str:
    return key if len(key) <= _LONGEST_KEY else key[:_LONGEST_KEY] + "…"
