"""Models that answer after a fixed delay with what the picture itself says. Loaded inside the replicas; touch no GPU.

A fake's name carries what it does, as the name of a real model would: `fake:0.2:0.9` takes 0.2 s for a pass and gives
every phrase the presence 0.9, so an answer tells which model made it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app.config.schema import AppConfig
from serve_app.errors import ConfigError
from serve_app.models.interface import Detections, Pair


@dataclass(frozen=True)
class FakeModel:
    """What a fake does: seconds for one pass, and the presence it reports."""

    delay_s: float
    presence: float

    @property
    def name(self) -> str:
        """Its `model_name`."""
        return f"fake:{self.delay_s:g}:{self.presence:g}"

    @staticmethod
    def named(name: str) -> FakeModel:
        """Read a `model_name`.

        Raises:
            ConfigError: it is no fake's.
        """
        kind, *numbers = name.split(":")
        if kind != "fake" or len(numbers) != 2:
            raise ConfigError(f"'{name}' is no fake model: fake:DELAY_S:PRESENCE")
        return FakeModel(float(numbers[0]), float(numbers[1]))


@dataclass(frozen=True)
class FakeFeatures:
    """Stands for features: the score that the picture asks for."""

    score: float
    nbytes: int = 1000


class FakeSegmenter:
    """Finds one object that fills the image, with the score that its first pixel's red gives in percent."""

    resolution_hw = (8, 8)

    def __init__(self, model: FakeModel) -> None:
        self._model = model

    def prepare(self, image: NDArray[np.uint8]) -> float:
        return float(image[0, 0, 0]) / 100

    def encode(self, scores: Sequence[float]) -> list[FakeFeatures]:
        time.sleep(self._model.delay_s)
        return [FakeFeatures(score) for score in scores]

    def embed(self, phrases: Sequence[str]) -> list[FakeFeatures]:
        return [FakeFeatures(0) for _ in phrases]

    def detect(self, pairs: Sequence[Pair[FakeFeatures, FakeFeatures]]) -> list[Detections]:
        return [self._detect(pair) for pair in pairs]

    def _detect(self, pair: Any) -> Detections:
        scores = np.array([pair.image.score], np.float32)
        keep = scores > pair.threshold
        boxes = np.array([[0, 0, 1, 1]], np.float32)
        masks = np.full((1, 4, 4), 5.0, np.float32)
        return Detections(boxes[keep], scores[keep], self._model.presence, masks[keep])


class FakeReplies:
    """Names the words of the prompt that are written in capitals."""

    def __init__(self, model: FakeModel) -> None:
        self._model = model

    async def reply(self, prompt: str) -> str:
        await asyncio.sleep(self._model.delay_s)
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


def load_identity(config: AppConfig) -> None:
    """Stand in for registry.load_identity: these tests compare no individuals."""


def load_segmenter(config: AppConfig) -> Any:
    """Stand in for registry.load_segmenter."""
    return FakeSegmenter(FakeModel.named(config.models.segmentation.model_name))


def load_parser(config: AppConfig) -> Any:
    """Stand in for registry.load_parser."""
    return FakeReplies(FakeModel.named(config.models.text_parser.model_name))
