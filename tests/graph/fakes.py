"""Models that answer at once, or misbehave where an image or a prompt tells them to. Loaded inside the replicas."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app.config.schema import AppConfig
from serve_app.errors import DeviceOutOfMemory, GensegError, InternalError, InvalidRequest
from serve_app.models.interface import Detections, Embedding, Pair
from serve_app.schemas.dicts import IdentityDict

DIES, HANGS, FULL, NONSENSE = 13, 17, 19, 23
"""Widths of images that kill the replica, take long, do not fit the device, and confuse the model."""

UNREADABLE, REASON = "unreadable", "not in this model's language"
"""A phrase with this word cannot be read, for that reason."""


@dataclass(frozen=True)
class FakeFeatures:
    """Stands for features; `width` is the image's."""

    width: int
    nbytes: int = 1000


class FakeSegmenter:
    """Finds one object that fills the image."""

    resolution_hw = (8, 8)

    def prepare(self, image: NDArray[np.uint8]) -> int:
        return int(image.shape[1])

    def encode(self, widths: Sequence[int]) -> list[FakeFeatures | GensegError]:
        if DIES in widths:
            os.kill(os.getpid(), signal.SIGKILL)  # dies at once, also where coverage is measured
        if HANGS in widths:
            time.sleep(5)
        return [DeviceOutOfMemory("too large") if width == FULL else FakeFeatures(width) for width in widths]

    def embed(self, phrases: Sequence[str]) -> list[FakeFeatures | InvalidRequest]:
        return [error or FakeFeatures(0) for error in self.check_phrases(phrases)]

    def check_phrases(self, phrases: Sequence[str]) -> list[InvalidRequest | None]:
        return [InvalidRequest(REASON) if UNREADABLE in phrase else None for phrase in phrases]

    def detect(self, pairs: Sequence[Pair[FakeFeatures, FakeFeatures]]) -> list[Detections | GensegError]:
        return [self._detect(pair) for pair in pairs]

    def _detect(self, pair: Pair[FakeFeatures, FakeFeatures]) -> Detections | GensegError:
        if pair.image.width == NONSENSE:
            return InternalError("not numbers")
        boxes = np.array([[0, 0, 1, 1]], np.float32)
        scores = np.array([0.9], np.float32)
        keep = scores > pair.threshold
        return Detections(boxes[keep], scores[keep], 0.9, np.full((1, 4, 4), 5.0, np.float32)[keep])


class FakeReplies:
    """Names the words of the prompt that are written in capitals."""

    async def reply(self, prompt: str) -> str:
        if "DIES" in prompt:
            os.kill(os.getpid(), signal.SIGKILL)
        if "NONSENSE" in prompt:
            return "I would rather not."
        return json.dumps([word.lower() for word in prompt.split() if word.isupper()])

    async def check(self) -> None:
        """It answers."""


def build(args: dict[str, Any]) -> Any:
    """The graph around fake models, for a Serve config's `import_path`."""
    from serve_app.app import bind
    from serve_app.config.files import app_config_from

    return bind(
        app_config_from(args), load_parser=load_parser, load_segmenter=load_segmenter, load_identity=load_identity
    )


def load_segmenter(_: AppConfig) -> Any:
    """Stand in for registry.load_segmenter."""
    return FakeSegmenter()


class FakeIdentity:
    """Tells objects apart by the mean colour of their crops."""

    side = 8
    dimension = 4

    def __init__(self) -> None:
        self.described: IdentityDict = {"model": "fake", "pooling": "mean", "crop": "any", "threshold": 0.6}

    def embed(self, crops: Sequence[NDArray[np.uint8]]) -> list[Embedding | GensegError]:
        vectors = [np.append(crop.mean(axis=(0, 1)) - 128, 1.0).astype(np.float32) for crop in crops]
        return [vector / np.float32(np.linalg.norm(vector)) for vector in vectors]


def load_identity(_: AppConfig) -> FakeIdentity:
    """Stand in for registry.load_identity."""
    return FakeIdentity()


def load_parser(_: AppConfig) -> Any:
    """Stand in for registry.load_parser."""
    return FakeReplies()
