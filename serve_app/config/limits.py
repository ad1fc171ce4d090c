"""The limits of a request, by the deployment that checks them."""

from __future__ import annotations

from pydantic import Field

from serve_app.config.values import MIB, Section


class ImageLimits(Section):
    """Limits of one image file. The ingress checks them on the file, the segmenter again when it decodes the file."""

    max_image_bytes: int = Field(
        32 * MIB,
        gt=0,
        description="Largest size of one image file, in bytes. If you raise it, raise `max_body_bytes` too: base64 in "
        "a JSON body takes a third more.",
    )
    max_megapixels: float = Field(
        50.0,
        gt=0,
        le=500,
        description="Largest width x height of one image, in millions of pixels. A decoded image takes 3 bytes of "
        "memory for each pixel.",
    )
    max_side: int = Field(65_535, ge=1, le=2**24, description="Longest side of an image, in pixels.")


class SegmenterLimits(ImageLimits):
    """The limits that the segmenter checks."""

    max_mask_bytes: int = Field(
        32 * MIB,
        gt=0,
        description="Largest total size of the masks of one image, in bytes as they are written in the answer. A point "
        "of a polygon counts as 64 bytes. The limit is checked while the masks are written, after the model's work.",
    )


class IngressLimits(ImageLimits):
    """The limits that the ingress checks."""

    max_body_bytes: int = Field(
        64 * MIB,
        gt=0,
        description="Largest size of a request's body, in bytes. An ingress replica holds up to twice this size in "
        "memory for each request that it reads.",
    )
    max_images: int = Field(16, ge=1, le=1024, description="Largest number of images in a request.")
    max_entities: int = Field(
        32,
        ge=1,
        le=1024,
        description="Largest number of entities that a request may name. If the parser finds more in a prompt, the "
        "others are listed in `meta.dropped`, without an error.",
    )
    max_entity_chars: int = Field(
        256,
        ge=1,
        description="Longest entity that a request may name, in characters. SAM3 reads at most 32 tokens, so it may "
        "refuse an entity that is within this limit. If the parser finds a longer entity, it is listed in "
        "`meta.dropped`. For the parser, only the value in `args:` counts.",
    )
    max_prompt_chars: int = Field(4000, ge=1, description="Longest prompt, in characters.")
    max_identity_objects: int = Field(
        16,
        ge=1,
        le=256,
        description="Largest number of objects of one entity in one image that a verdict compares. If there are more, "
        "those with the best scores are compared, and the verdict's `reasons` mention it. The request does not fail.",
    )


class LimitsConfig(IngressLimits, SegmenterLimits):
    """Limits of a request.

    A request over a limit gets 413 `too_large` before any image is segmented. If a limit works differently, its
    description says so. Raise a limit only if your requests need it: each limit bounds the memory or the time that one
    caller can take. The ingress and the segmenter both check an image's limits (`max_image_bytes`, `max_megapixels`,
    `max_side`), so change those in `args:` or in the `user_config:` of both.
    """
