"""What travels between the ingress, the parser and the segmenter. Plain frozen data; knows no Ray and no models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from serve_app.entities.mentions import Asked
from serve_app.errors import GensegError
from serve_app.images.marks import Marks
from serve_app.schemas.base import MaskFormat, OverlayStyle
from serve_app.schemas.dicts import DroppedDict, EntitiesDict, ObjectDict, SegmentedDict
from serve_app.schemas.phrase_key import phrase_key
from serve_app.verdict.evidence import Evidence


@dataclass(frozen=True)
class ParsedPrompt:
    """A prompt's entities in order.

    Attributes:
        entities: what is looked for.
        dropped: what the model named besides, each with the reason why it is not looked for.
        model: name of the model whose reply was used, as configured; empty where no model read the prompt.
        asked: what the prompt asks for, one an entity and in their order; empty where no verdict is asked for.
    """

    entities: tuple[str, ...]
    dropped: tuple[tuple[str, str], ...] = ()
    model: str = ""
    asked: tuple[Asked, ...] = ()

    def without(self, unreadable: Mapping[str, str]) -> ParsedPrompt:
        """Drop the entities that the segmenter cannot read.

        Args:
            unreadable: the reason of each; entities that are not in it stay.
        """
        kept = tuple(entity for entity in self.entities if entity not in unreadable)
        more = tuple((entity, unreadable[entity]) for entity in self.entities if entity in unreadable)
        asked = tuple(each for each in self.asked if each.entity not in unreadable)
        return ParsedPrompt(kept, self.dropped + more, self.model, asked)

    def dropped_document(self) -> list[DroppedDict]:
        """Write what is not looked for as documents and events show it."""
        return [{"entity": entity, "reason": reason} for entity, reason in self.dropped]

    def document(self) -> EntitiesDict:
        """Write it as `POST /v1/entities` answers."""
        return {"entities": [*self.entities], "dropped": self.dropped_document()}


@dataclass(frozen=True)
class ObjectOptions:
    """How objects are chosen and written; the same for every image of a request."""

    threshold: float = 0.5
    thresholds: Mapping[str, float] = field(default_factory=dict)
    mask_threshold: float = 0.5
    mask_format: MaskFormat = "rle"
    overlays: bool = False
    overlay_style: OverlayStyle = "fill"
    verdict: bool = False

    def threshold_of(self, entity: str) -> float:
        """The threshold of this very name; else of the same entity written otherwise; else the common one."""
        name = self._name_of(entity)
        return self.threshold if name is None else self.thresholds[name]

    def thresholds_in_force(self, entities: Sequence[str]) -> dict[str, float]:
        """Return the own thresholds of those entities that have one, by the entity."""
        named = ((entity, self._name_of(entity)) for entity in entities)
        return {entity: self.thresholds[name] for entity, name in named if name is not None}

    def unused_thresholds(self, entities: Sequence[str]) -> list[str]:
        """Return the names in `thresholds` that are no entity's, in their order."""
        used = {self._name_of(entity) for entity in entities}
        return [name for name in self.thresholds if name not in used]

    def _name_of(self, entity: str) -> str | None:
        if not self.thresholds:
            return None
        return entity if entity in self.thresholds else self._names.get(phrase_key(entity))

    @cached_property
    def _names(self) -> dict[str, str]:
        """The first name of each entity in `thresholds`, by the entity's key; it travels along."""
        return {phrase_key(name): name for name in reversed([*self.thresholds])}


@dataclass(frozen=True)
class ModelStamp:
    """Which model did some work, and where.

    Attributes:
        name: as configured, for `meta.models`.
        version: equal for replicas whose answers may stand in one document.
        since: when the replica started, in seconds since 1970: of two versions the later one is the newer one.
        replica: the replica's id.
    """

    name: str
    version: str
    since: float
    replica: str


@dataclass(frozen=True)
class JudgedImage:
    """What a segmenter needs to know of a request to gather evidence for the verdict.

    Attributes:
        image: index among the contextual images; None for the generated one.
        contextual_images: how many there are.
        has_generated: whether there is a generated image; without one nothing is compared.
        max_objects: objects of a label and image that are compared with others, at most.
    """

    image: int | None
    contextual_images: int
    has_generated: bool
    max_objects: int

    @property
    def is_compared(self) -> bool:
        """Whether objects of this request's images are compared."""
        return self.has_generated and self.contextual_images > 0


@dataclass(frozen=True)
class ImageTask:
    """One image's work for the segmenter.

    Attributes:
        key: content hash of the image file.
        data: the file's bytes, or a reference to them in the object store.
        parsed: a ParsedPrompt, or a reference to the parser's answer, still under way.
        options: how objects are chosen and written.
        request_id: whose work it is, for fairness and logs.
        timeout_s: seconds left until nobody waits for the answer any more.
        version: the only version of the model that may do the work; None where any may.
        replicas: ids of replicas that have that version; they are asked first.
        judged: which image of the request it is, where a verdict is asked for; else None.
    """

    key: str
    data: Any
    parsed: Any
    options: ObjectOptions
    request_id: str
    timeout_s: float
    version: str | None = None
    replicas: frozenset[str] = frozenset()
    judged: JudgedImage | None = None


@dataclass(frozen=True)
class SegmentedImage:
    """One image's objects, and who found them.

    Attributes:
        document: the image's document without its path; its masks may be packed, see `documents.unpack_masks`.
        stamp: of the model that did the work.
        unreadable: entities that this model cannot read, each with the reason; nothing in `document` is theirs.
        evidence: for the verdict; None where the task asks for none.
        drawn: the document's objects with their masks as RLE, where the verdict will be drawn on an overlay of them.
    """

    document: SegmentedDict
    stamp: ModelStamp
    unreadable: Mapping[str, str] = field(default_factory=dict)
    evidence: Evidence | None = None
    drawn: Sequence[ObjectDict] | None = None


@dataclass(frozen=True)
class OtherModel:
    """The segmenter's answer where the task is for another version of the model; no work was done."""

    stamp: ModelStamp


@dataclass(frozen=True)
class OverlayTask:
    """One overlay's work for the segmenter: an image that was segmented is drawn again, with what the verdict says.

    Attributes:
        key, data, request_id, timeout_s: as of ImageTask.
        objects: with masks as RLE.
        entities: all of the image; they have the colours.
        style: of the overlay.
        marks: what the verdict says of the image.
    """

    key: str
    data: Any
    objects: Sequence[ObjectDict]
    entities: Sequence[str]
    style: OverlayStyle
    marks: Marks
    request_id: str
    timeout_s: float


@dataclass(frozen=True)
class InputsLost:
    """The segmenter's answer where a reference in its task leads nowhere: to the image, or to the parser's answer."""


ImageOutcome = SegmentedImage | OtherModel | GensegError | InputsLost
"""The segmenter's answer.

Errors are values here, not raised: Ray would log each with a remote traceback and wrap it in a class of its own.
"""
