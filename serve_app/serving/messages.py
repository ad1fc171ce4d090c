"""Messages between the ingress, the parser and the segmenter, as frozen dataclasses.

This module imports neither Ray nor models.
"""

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
    """The entities of a prompt, in order.

    Attributes:
        entities: the phrases to segment.
        dropped: phrases from the parser that are not segmented, each with the reason.
        model: configured name of the model whose reply was used; empty if no model read the prompt.
        asked: for each entity in order, how many the prompt asks for and from which images; empty without a verdict.
    """

    entities: tuple[str, ...]
    dropped: tuple[tuple[str, str], ...] = ()
    model: str = ""
    asked: tuple[Asked, ...] = ()

    def without(self, unreadable: Mapping[str, str]) -> ParsedPrompt:
        """Move the entities that the segmenter cannot read to `dropped`.

        Args:
            unreadable: reasons by entity; entities without a reason stay.

        >>> ParsedPrompt(("dog", "sofa")).without({"sofa": "too long"})
        ParsedPrompt(entities=('dog',), dropped=(('sofa', 'too long'),), model='', asked=())
        """
        kept = tuple(entity for entity in self.entities if entity not in unreadable)
        more = tuple((entity, unreadable[entity]) for entity in self.entities if entity in unreadable)
        asked = tuple(each for each in self.asked if each.entity not in unreadable)
        return ParsedPrompt(kept, self.dropped + more, self.model, asked)

    def dropped_document(self) -> list[DroppedDict]:
        """Return `dropped` in the form of documents and events."""
        return [{"entity": entity, "reason": reason} for entity, reason in self.dropped]

    def document(self) -> EntitiesDict:
        """Return the answer of `POST /v1/entities`."""
        return {"entities": [*self.entities], "dropped": self.dropped_document()}


@dataclass(frozen=True)
class ObjectOptions:
    """The options that select and encode objects; the same for every image of a request."""

    threshold: float = 0.5
    thresholds: Mapping[str, float] = field(default_factory=dict)
    mask_threshold: float = 0.5
    mask_format: MaskFormat = "rle"
    overlays: bool = False
    overlay_style: OverlayStyle = "fill"
    verdict: bool = False

    def threshold_of(self, entity: str) -> float:
        """Return the entity's own threshold, also if `thresholds` spells its name differently; else the common one.

        >>> ObjectOptions(thresholds={"Red  Sofa": 0.3}).threshold_of("red sofa")
        0.3
        """
        name = self._name_of(entity)
        return self.threshold if name is None else self.thresholds[name]

    def thresholds_in_force(self, entities: Sequence[str]) -> dict[str, float]:
        """Return the thresholds of the entities that have their own, by entity."""
        named = ((entity, self._name_of(entity)) for entity in entities)
        return {entity: self.thresholds[name] for entity, name in named if name is not None}

    def unused_thresholds(self, entities: Sequence[str]) -> list[str]:
        """Return the names in `thresholds` that match none of the entities, in their order."""
        used = {self._name_of(entity) for entity in entities}
        return [name for name in self.thresholds if name not in used]

    def _name_of(self, entity: str) -> str | None:
        if not self.thresholds:
            return None
        return entity if entity in self.thresholds else self._names.get(phrase_key(entity))

    @cached_property
    def _names(self) -> dict[str, str]:
        """The first name of each entity in `thresholds`, by phrase key. Pickled with the options."""
        return {phrase_key(name): name for name in reversed([*self.thresholds])}


@dataclass(frozen=True)
class ModelStamp:
    """The model and the replica that produced a result.

    Attributes:
        name: the model's configured name, for `meta.models`.
        version: equal for replicas whose results may be combined in one document (see stamp.version_of).
        since: when the replica started, in seconds since 1970. The version that started last counts as the newest.
        replica: the replica's id; empty outside a replica.
    """

    name: str
    version: str
    since: float
    replica: str


@dataclass(frozen=True)
class JudgedImage:
    """What a segmenter must know about the request to collect evidence for the verdict.

    Attributes:
        image: this image's index among the contextual images; None for the generated one.
        contextual_images: how many the request has.
        has_generated: whether the request has a generated image; without one nothing is compared.
        max_objects: at most this many objects of a label are compared with those of other images.
    """

    image: int | None
    contextual_images: int
    has_generated: bool
    max_objects: int

    @property
    def is_compared(self) -> bool:
        """Whether the request has images whose objects can be compared."""
        return self.has_generated and self.contextual_images > 0


@dataclass(frozen=True)
class ImageTask:
    """A call to the segmenter: one image to segment.

    Attributes:
        key: content hash of the image file.
        data: the file's bytes, or a reference to them in the object store.
        parsed: a ParsedPrompt, or an object reference to the parser's answer, which may not be ready yet.
        options: select and encode the objects.
        request_id: the request that the image belongs to, for fairness and logs.
        timeout_s: seconds until the request's deadline.
        version: the only model version that may do the work; None if any may.
        replicas: ids of replicas that have that version; they are tried first.
        judged: facts about the request for the verdict; None if no verdict is requested.
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
    """The segmenter's result for one image.

    Attributes:
        document: the image's document without its path; its masks may be packed (see `documents.unpack_masks`).
        stamp: the model and the replica that did the work.
        unreadable: entities that this model cannot read, each with the reason; `document` does not contain them.
        evidence: for the verdict; None if the task asks for none.
        drawn: the document's objects with masks as RLE, if the verdict will be drawn on their overlay; else None.
    """

    document: SegmentedDict
    stamp: ModelStamp
    unreadable: Mapping[str, str] = field(default_factory=dict)
    evidence: Evidence | None = None
    drawn: Sequence[ObjectDict] | None = None


@dataclass(frozen=True)
class OtherModel:
    """The segmenter's answer if it has another model version than the task requires. It did no work."""

    stamp: ModelStamp


@dataclass(frozen=True)
class OverlayTask:
    """A call to the segmenter: the overlay of a segmented image to draw again, with the verdict.

    Attributes:
        key, data, request_id, timeout_s: as in ImageTask.
        objects: the objects to draw, with masks as RLE.
        entities: all entities of the image; they determine the colours.
        style: how objects are drawn.
        marks: what the verdict says about the image.
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
    """The segmenter's answer if Ray's object store has lost an input of the task: the image, or the parser's answer."""


ImageOutcome = SegmentedImage | OtherModel | GensegError | InputsLost
"""The segmenter's answer.

Errors are returned, not raised, because Ray would log each raised error with a remote traceback and wrap it in a class
of its own.
"""
