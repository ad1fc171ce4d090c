"""What callers send.

Opens no file and fetches nothing, except the two `from_file(s)` constructors, which run in the caller's process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

from pydantic import Field, ValidationError, model_validator

from serve_app.errors import InvalidRequest
from serve_app.schemas.base import Fraction, Incoming, MaskFormat, Text, at_most, invalid_request

MAX_IMAGES = 1024
MAX_ENTITIES = 1024
"""The most that any configuration allows (see `LimitsConfig`, whose own numbers are smaller)."""


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
    entities: Annotated[list[Text] | None, at_most(MAX_ENTITIES)] = Field(
        None, description="Given, it bypasses the parser."
    )
    contextual_images: Annotated[list[ImageInput], at_most(MAX_IMAGES)] = Field(default_factory=list)
    generated_image: ImageInput | None = None
    threshold: Fraction | None = Field(None, description="Objects with a score above it are listed; default 0.5.")
    mask_threshold: Fraction | None = Field(None, description="Mask probability of an object's pixel; default 0.5.")
    thresholds: Annotated[dict[Text, Fraction], at_most(2 * MAX_ENTITIES)] = Field(
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


def parse_request(body: SegmentRequest | Mapping[str, object]) -> SegmentRequest:
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


def parse_entities_request(body: Mapping[str, object]) -> EntitiesRequest:
    """Check the body of `POST /v1/entities`; bounds as of `parse_request`.

    Raises:
        InvalidRequest: names the first field that is wrong.
    """
    try:
        return EntitiesRequest.model_validate(dict(body))
    except ValidationError as error:
        raise invalid_request(error) from None
