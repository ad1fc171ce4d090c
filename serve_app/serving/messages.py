"""What travels between the ingress, the parser and the segmenter. Plain frozen data; knows no Ray and no models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serve_app.errors import GensegError
from serve_app.schemas.base import MaskFormat
from serve_app.schemas.dicts import DroppedDict, EntitiesDict, SegmentedDict
from serve_app.schemas.phrase_key import phrase_key


@dataclass(frozen=True)
class ParsedPrompt:
    """A prompt's entities in order, and the terms that the filter dropped, each with its reason."""

    entities: tuple[str, ...]
    dropped: tuple[tuple[str, str], ...] = ()

    def document(self) -> EntitiesDict:
        """Write it as `POST /v1/entities` answers."""
        dropped: list[DroppedDict] = [{"entity": entity, "reason": reason} for entity, reason in self.dropped]
        return {"entities": [*self.entities], "dropped": dropped}


@dataclass(frozen=True)
class ObjectOptions:
    """How objects are chosen and written; the same for every image of a request."""

    threshold: float = 0.5
    thresholds: Mapping[str, float] = field(default_factory=dict)
    mask_threshold: float = 0.5
    mask_format: MaskFormat = "rle"
    overlays: bool = False

    def threshold_of(self, entity: str) -> float:
        """The threshold of this very name; else of a name typed otherwise; else the common one."""
        if entity in self.thresholds:
            return self.thresholds[entity]
        wanted = phrase_key(entity)
        others = (threshold for name, threshold in self.thresholds.items() if phrase_key(name) == wanted)
        return next(others, self.threshold)


@dataclass(frozen=True)
class ImageTask:
    """One image's work for the segmenter.

    Attributes:
        key: content hash of the image file.
        data: the file's bytes, or a reference to them in the object store.
        entities: entities in order, or a reference to the parser's answer, still under way.
        options: how objects are chosen and written.
        request_id: whose work it is, for fairness and logs.
        timeout_s: seconds left until nobody waits for the answer any more.
    """

    key: str
    data: Any
    entities: Any
    options: ObjectOptions
    request_id: str
    timeout_s: float


@dataclass(frozen=True)
class InputsLost:
    """The segmenter's answer where a reference in its task leads nowhere: to the image, or to the parser's answer."""


ImageOutcome = SegmentedDict | GensegError | InputsLost
"""The segmenter's answer: an image document without its path, or what went wrong.

Errors are values here, not raised: Ray would log each with a remote traceback and wrap it in a class of its own.
"""
