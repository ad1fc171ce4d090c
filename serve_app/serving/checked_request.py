"""What a request asks for: held against the limits, its images as slots, its options. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from serve_app.config.schema import AppConfig
from serve_app.entities.phrases import normalise_entities
from serve_app.errors import InvalidRequest, TooLarge
from serve_app.schemas.requests import ImageInput, SegmentRequest
from serve_app.serving.messages import SegmentOptions


@dataclass(frozen=True)
class Slot:
    """One image's place in the request."""

    role: str  # "contextual" or "generated"
    index: int
    source: ImageInput
    ordinal: int

    @property
    def place(self) -> str:
        """The field's name, as errors write it."""
        return "generated_image" if self.role == "generated" else f"contextual_images[{self.index}]"

    @property
    def path(self) -> str:
        """What the caller called the image."""
        return self.source.name or self.source.url or f"image_{self.ordinal}"


def check_request(request: SegmentRequest, config: AppConfig) -> SegmentRequest:
    """Hold a well-formed request against the limits that need no image bytes.

    Returns:
        The request, its own entities normalised.

    Raises:
        InvalidRequest: no image, or neither prompt nor entities.
        TooLarge: too many images, entities or thresholds, or a prompt or an entity that is too long.
    """
    limits = config.limits
    count = len(request.contextual_images) + (request.generated_image is not None)
    if count == 0:
        raise InvalidRequest("no image: give contextual_images, generated_image or both")
    if count > limits.max_images:
        raise TooLarge(f"{count} images are over the limit of {limits.max_images}")
    if len(request.prompt) > limits.max_prompt_chars:
        raise TooLarge(
            f"prompt: {len(request.prompt)} characters are over the limit of {limits.max_prompt_chars}", "prompt"
        )
    if len(request.thresholds) > 2 * limits.max_entities:
        raise TooLarge(
            f"thresholds: {len(request.thresholds)} are over the limit of {2 * limits.max_entities}", "thresholds"
        )
    if request.entities is None:
        if not request.prompt.strip():
            raise InvalidRequest("prompt: empty, and no entities are given", "prompt")
        return request
    if len(request.entities) > limits.max_entities:
        raise TooLarge(
            f"entities: {len(request.entities)} entities are over the limit of {limits.max_entities}", "entities"
        )
    for index, entity in enumerate(request.entities):
        if len(entity) > limits.max_entity_chars:
            raise TooLarge(
                f"entities[{index}]: {len(entity)} characters are over the limit of {limits.max_entity_chars}",
                f"entities[{index}]",
            )
    return request.model_copy(update={"entities": normalise_entities(request.entities)})


def slots_of(request: SegmentRequest) -> list[Slot]:
    """List a request's images in the order of the document."""
    slots = [Slot("contextual", index, source, index) for index, source in enumerate(request.contextual_images)]
    if request.generated_image is not None:
        slots.append(Slot("generated", 0, request.generated_image, len(slots)))
    return slots


def options_of(request: SegmentRequest, config: AppConfig) -> SegmentOptions:
    """Fill what a request leaves open from the configuration."""
    defaults = config.segmentation
    return SegmentOptions(
        # Not `or`: 0.0 is a threshold like any other.
        threshold=defaults.threshold if request.threshold is None else request.threshold,
        thresholds=dict(request.thresholds),
        mask_threshold=defaults.mask_threshold if request.mask_threshold is None else request.mask_threshold,
        mask_format=request.mask_format,
        overlays=request.overlays,
    )
