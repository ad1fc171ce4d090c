"""The requests that callers send.

Only `from_file` and `from_files`, which run in the caller's process, open files. Nothing is fetched from a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Annotated, TypedDict, TypeVar, Unpack, cast

from pydantic import Field, ValidationError, model_validator

from serve_app.errors import InvalidRequest
from serve_app.schemas.base import Fraction, Incoming, MaskFormat, OverlayStyle, Text, at_most, invalid_request
from serve_app.schemas.file_uri import local_path

MAX_IMAGES = 1024
MAX_ENTITIES = 1024
"""The largest values that a configuration may set for these limits; see `LimitsConfig` for the defaults."""


class ImageInput(Incoming):
    """One image: `data` or `url`, not both.

    `data` is base64 or a `data:` URI. In a call through a Ray Serve handle, it may also be the bytes of the file.
    """

    data: str | bytes | None = Field(None, description="The image file: base64 or a `data:` URI.")
    url: Text | None = Field(None, description="http(s) address that the server fetches.", max_length=8192)
    name: Text | None = Field(None, description="Name of the image. The answer repeats it as `path`.", max_length=4096)

    @model_validator(mode="before")
    @classmethod
    def _accept_raw_bytes(cls, value: object) -> object:
        if isinstance(value, bytes | bytearray | memoryview):
            return {"data": bytes(value)}
        return value

    @model_validator(mode="after")
    def _one_source(self) -> ImageInput:
        if (self.data is None) == (self.url is None):
            raise ValueError("an image needs either 'data' or 'url'")
        return self

    @classmethod
    def from_file(cls, source: ImageInput | bytes | str | PathLike[str], max_bytes: int | None = None) -> ImageInput:
        """Read an image file in the caller's process.

        Args:
            source: a path, a `file:` URI, an http(s) URL (the server fetches it), the bytes of an image file, or an
                ImageInput, which is returned unchanged.
            max_bytes: size limit of a file; None for no limit. A larger file is not refused here: its first
                `max_bytes` + 1 bytes are read, so that the caller of this function can see that it is too large.

        Raises:
            OSError: the file cannot be read.
            InvalidRequest: a `file:` URI names another machine.
            ValidationError: the URL or path is too long, or contains characters that no text may have.
        """
        if isinstance(source, ImageInput):
            return source
        if isinstance(source, bytes):
            return cls(data=source)
        text = fspath(source)
        if text.lower().startswith(("http://", "https://")):
            return cls(url=text)
        with Path(local_path(text)).open("rb") as file:
            return cls(data=file.read() if max_bytes is None else file.read(max_bytes + 1), name=text)


class RequestOptions(Incoming):
    """The options of a request, with their types, ranges and descriptions.

    The form, `/openapi.json`, the manifest of a dataset and the flags of the command line are made from these fields.
    To add an option, add one field here, and repeat its name and type in `OptionArguments` for type checkers.
    """

    entities: Annotated[list[Text] | None, at_most(MAX_ENTITIES)] = Field(
        None,
        description=(
            "What to look for, instead of the things in the prompt. The text parser is then not called. A verdict "
            "still reads the prompt."
        ),
    )
    threshold: Fraction | None = Field(
        None,
        description=(
            "Only objects with a score above this value are listed, from 0 to 1. Without it, the configuration's "
            "value counts (0.5 by default)."
        ),
    )
    mask_threshold: Fraction | None = Field(
        None,
        description=(
            "Pixels with a mask probability above this value belong to the object, from 0 to 1. Without it, the "
            "configuration's value counts (0.5 by default)."
        ),
    )
    thresholds: Annotated[dict[Text, Fraction], at_most(2 * MAX_ENTITIES)] = Field(
        default_factory=dict, description="A threshold for each named entity. The other entities use `threshold`."
    )
    mask_format: MaskFormat = Field(
        "rle", description="How masks are sent: as COCO RLE, polygons or PNG, or not at all (`none`)."
    )
    overlays: bool = Field(False, description="Add `overlay` to each image: a data URI of an annotated JPEG.")
    overlay_style: OverlayStyle = Field(
        "fill", description="How overlays show masks: filled with colour, or only as outlines (`outline`)."
    )
    verdict: bool = Field(
        False, description="Add `verdict`: whether each thing that the prompt asks for is in the generated image."
    )
    timeout_s: float | None = Field(
        None,
        gt=0,
        description="Deadline of the request, in seconds. A service shortens it to its `serving.max_timeout_s`.",
    )

    def given(self) -> OptionArguments:
        """Return only the options that the caller set."""
        names = self.model_fields_set & RequestOptions.model_fields.keys()
        return cast(OptionArguments, self.model_dump(include=set(names)))


class OptionArguments(TypedDict, total=False):
    """The fields of RequestOptions as keyword arguments, for type checkers. Pydantic cannot derive this type."""

    entities: list[str] | None
    threshold: float | None
    mask_threshold: float | None
    thresholds: dict[str, float]
    mask_format: MaskFormat
    overlays: bool
    overlay_style: OverlayStyle
    verdict: bool
    timeout_s: float | None


class ImageBody(TypedDict, total=False):
    """An ImageInput as a dict, as in the JSON body."""

    data: str | bytes
    url: str
    name: str


class SegmentBody(OptionArguments, total=False):
    """A SegmentRequest as a dict, as in the JSON body.

    In a call through a Ray Serve handle, an image may also be the bytes of a file.
    """

    prompt: str
    contextual_images: Sequence[ImageBody | ImageInput | bytes]
    generated_image: ImageBody | ImageInput | bytes | None


class _Inputs(Incoming):
    # Pydantic lists the fields of the last base class first. This separate class is the last base, so that the API's
    # description and error messages begin with these fields.
    prompt: Text = Field("", description="The image-generation prompt.")
    contextual_images: Annotated[list[ImageInput], at_most(MAX_IMAGES)] = Field(default_factory=list)
    generated_image: ImageInput | None = None


class SegmentRequest(RequestOptions, _Inputs):
    """The body of `POST /v1/segment`: a prompt or entities, contextual images, a generated image, and options."""

    @classmethod
    def from_files(
        cls,
        prompt: str = "",
        contextual: Sequence[ImageInput | bytes | str | PathLike[str]] = (),
        generated: ImageInput | bytes | str | PathLike[str] | None = None,
        **options: Unpack[OptionArguments],
    ) -> SegmentRequest:
        """Build a request from paths, URLs or bytes, read in the caller's process.

        Args:
            prompt: the image-generation prompt.
            contextual: the contextual images, in order.
            generated: the generated image.
            options: fields of RequestOptions.

        Raises:
            OSError: a file cannot be read.
            InvalidRequest: an option is unknown, has a wrong type or is out of range. The message suggests the nearest
                name for an unknown option.
            TooLarge: a list or mapping is longer than any configuration allows.
        """
        try:
            return cls(
                prompt=prompt,
                contextual_images=[_image(source, f"contextual[{i}]") for i, source in enumerate(contextual)],
                generated_image=None if generated is None else _image(generated, "generated"),
                **options,
            )
        except ValidationError as error:
            raise invalid_request(error, ("prompt", "contextual", "generated", *RequestOptions.model_fields)) from None

    @classmethod
    def from_checked(
        cls,
        prompt: str,
        contextual_images: list[ImageInput],
        generated_image: ImageInput | None,
        options: RequestOptions,
    ) -> SegmentRequest:
        """Build a request from checked parts, such as those of a manifest's row, without checking them again.

        Args:
            prompt: the image-generation prompt.
            contextual_images: the contextual images, in order.
            generated_image: the generated image; None for none.
            options: the options. Only the fields that were set are used.
        """
        return cls.model_construct(
            prompt=prompt,
            contextual_images=contextual_images,
            generated_image=generated_image,
            **options.given(),
        )


def _image(source: ImageInput | bytes | str | PathLike[str], argument: str) -> ImageInput:
    try:
        return ImageInput.from_file(source)
    except ValidationError as error:
        raise InvalidRequest(f"{argument}: {invalid_request(error).message}", argument) from None
    except InvalidRequest as error:
        raise error.at(argument) from None


class EntitiesRequest(Incoming):
    """The body of `POST /v1/entities`."""

    prompt: Text


Body = TypeVar("Body", bound=Incoming)


def parse_request(body: object) -> SegmentRequest:
    """Check a request from a handle or from a JSON body.

    Bounds: a list that is longer than any configuration allows is refused before its items are checked. An object with
    more keys than there are fields is refused in the same way. Therefore pydantic collects at most about 4,000 faults
    for one body, which takes about 20 ms and 10 MB.

    Args:
        body: a SegmentRequest, which is returned unchanged, or a mapping as in the JSON body.

    Raises:
        InvalidRequest: a field is wrong; the message names the first one.
        TooLarge: a list or mapping is longer than any configuration allows.
    """
    return body if isinstance(body, SegmentRequest) else _checked(SegmentRequest, body)


def parse_entities_request(body: object) -> EntitiesRequest:
    """Check the body of `POST /v1/entities`, with the bounds of `parse_request`.

    Raises:
        InvalidRequest: a field is wrong; the message names the first one.
    """
    return _checked(EntitiesRequest, body)


def _checked(model: type[Body], body: object) -> Body:
    if not isinstance(body, Mapping):
        raise InvalidRequest("the body must be a JSON object")
    try:
        return model.model_validate(dict(body))
    except ValidationError as error:
        raise invalid_request(error, model.model_fields) from None
