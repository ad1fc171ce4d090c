"""Check a request against the limits, and fill in defaults from the configuration. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from serve_app.config.findings import hint
from serve_app.config.schema import AppConfig, LimitsConfig
from serve_app.entities.phrases import normalise_entities
from serve_app.errors import InvalidRequest, TooLarge
from serve_app.schemas.base import shown_key
from serve_app.schemas.events import Role
from serve_app.schemas.phrase_key import phrase_key
from serve_app.schemas.requests import ImageInput, SegmentRequest
from serve_app.schemas.shown_url import shown_url
from serve_app.serving.messages import ObjectOptions


@dataclass(frozen=True)
class RequestImage:
    """One image of a request.

    Attributes:
        role: "contextual" or "generated".
        index: position among the images of its role, from 0.
        source: its bytes or URL.
        ordinal: position among all images, from 0, contextual ones first.
    """

    role: Role
    index: int
    source: ImageInput
    ordinal: int

    @property
    def field(self) -> str:
        """The image's place in the request, as errors name it, such as "contextual_images[0]"."""
        return "generated_image" if self.role == "generated" else f"contextual_images[{self.index}]"

    @property
    def path(self) -> str:
        """The caller's name for the image; else its URL as `shown_url` shortens it; else "image_0", "image_1", …."""
        url = self.source.url
        return self.source.name or (shown_url(url) if url else f"image_{self.ordinal}")


@dataclass(frozen=True)
class CheckedRequest:
    """A request within the limits.

    Attributes:
        prompt: as given; may be empty if `entities` are given.
        entities: the caller's own, normalised; None if the prompt must be parsed.
        images: at least one, in the order of the document.
        options: select and encode the objects.
        timeout_s: seconds from the start to the deadline.
        entity_fields: the place of each of the caller's entities in the request, such as "entities[0]".
    """

    prompt: str
    entities: tuple[str, ...] | None
    images: tuple[RequestImage, ...]
    options: ObjectOptions
    timeout_s: float
    entity_fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def contextual_images(self) -> int:
        """The number of contextual images."""
        return sum(image.role == "contextual" for image in self.images)

    def refuse_entities(self, unreadable: Mapping[str, str]) -> None:
        """Refuse the request if the caller named an entity that the segmenter cannot read.

        Args:
            unreadable: reasons by phrase. Entities of the parser have no field and are ignored here.

        Raises:
            InvalidRequest: names the first such entity's field.
        """
        for entity, place in self.entity_fields.items():
            if entity in unreadable:
                raise InvalidRequest(f"{place}: {unreadable[entity]}", place)


def check(request: SegmentRequest, config: AppConfig) -> CheckedRequest:
    """Check a parsed request against the limits that need no image bytes.

    Args:
        request: the parsed request.
        config: the limits, and defaults for options that the request does not set.

    Raises:
        InvalidRequest: there is no image, or neither prompt nor entities, or a threshold matches none of the entities.
        TooLarge: there are too many images, entities or thresholds, or the prompt or an entity is too long.
    """
    limits, serving = config.limits, config.serving
    images = _images(request)
    if not images:
        raise InvalidRequest("no image: give contextual_images, generated_image or both")
    if len(images) > limits.max_images:
        raise TooLarge(f"{len(images)} images are over the limit of {limits.max_images}")
    _check_length(request.prompt, limits)
    _check_threshold_names(request.thresholds, limits)
    fields = {} if request.entities is None else _entity_fields(request.entities, limits)
    entities = None if request.entities is None else tuple(fields)
    if entities is None and not request.prompt.strip():
        raise InvalidRequest("prompt: empty, and no entities are given", "prompt")
    options = _options(request, config)
    if entities is not None:
        _check_thresholds(options, entities)
    timeout_s = min(request.timeout_s or serving.timeout_s, serving.max_timeout_s)
    return CheckedRequest(request.prompt, entities, images, options, timeout_s, fields)


def check_prompt(prompt: str, limits: LimitsConfig) -> None:
    """Check a prompt that will be parsed against the limits.

    Raises:
        InvalidRequest: the prompt is empty.
        TooLarge: the prompt is too long.
    """
    if not prompt.strip():
        raise InvalidRequest("prompt: empty", "prompt")
    _check_length(prompt, limits)


def _check_length(prompt: str, limits: LimitsConfig) -> None:
    if len(prompt) > limits.max_prompt_chars:
        raise TooLarge(f"prompt: {len(prompt)} characters are over the limit of {limits.max_prompt_chars}", "prompt")


def _entity_fields(entities: list[str], limits: LimitsConfig) -> dict[str, str]:
    """Return the distinct entities in order, each with the field of its first mention."""
    for index, entity in enumerate(entities):
        if len(entity) > limits.max_entity_chars:
            raise TooLarge(
                f"entities[{index}]: {len(entity)} characters are over the limit of {limits.max_entity_chars}",
                f"entities[{index}]",
            )
    distinct = normalise_entities(entities)
    if len(distinct) > limits.max_entities:
        raise TooLarge(f"entities: {len(distinct)} entities are over the limit of {limits.max_entities}", "entities")
    place_of: dict[str, str] = {}
    for index, entity in enumerate(entities):
        place_of.setdefault(phrase_key(entity), f"entities[{index}]")
    return {entity: place_of[phrase_key(entity)] for entity in distinct}


def _check_threshold_names(names: Collection[str], limits: LimitsConfig) -> None:
    if len(names) > 2 * limits.max_entities:
        raise TooLarge(f"thresholds: {len(names)} are over the limit of {2 * limits.max_entities}", "thresholds")
    longest = max(names, key=len, default="")
    if len(longest) > limits.max_entity_chars:
        raise TooLarge(
            f"thresholds: a name of {len(longest)} characters is over the limit of {limits.max_entity_chars}",
            "thresholds",
        )


def _check_thresholds(options: ObjectOptions, entities: Sequence[str]) -> None:
    for name in options.unused_thresholds(entities):
        place = f"thresholds.{shown_key(name)}"
        twice = any(phrase_key(name) == phrase_key(entity) for entity in entities)
        fault = "another threshold names the same entity" if twice else f"not among the entities{hint(name, entities)}"
        raise InvalidRequest(f"{place}: {fault}", place)


def _images(request: SegmentRequest) -> tuple[RequestImage, ...]:
    images = [
        RequestImage("contextual", index, source, index) for index, source in enumerate(request.contextual_images)
    ]
    if request.generated_image is not None:
        images.append(RequestImage("generated", 0, request.generated_image, len(images)))
    return tuple(images)


def _options(request: SegmentRequest, config: AppConfig) -> ObjectOptions:
    defaults = config.segmentation
    return ObjectOptions(
        # Not `or`: 0.0 is a threshold like any other.
        threshold=defaults.threshold if request.threshold is None else request.threshold,
        thresholds=dict(request.thresholds),
        mask_threshold=defaults.mask_threshold if request.mask_threshold is None else request.mask_threshold,
        mask_format=request.mask_format,
        overlays=request.overlays,
        overlay_style=request.overlay_style,
        verdict=request.verdict,
    )
