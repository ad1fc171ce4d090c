"""Models that a user adds need one module that loads them (here this one) and one line of the registry."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from serve_app.config.engines import PARSERS, SEGMENTERS
from serve_app.config.models import ModelsConfig, SegmentationModel, TextParserModel
from serve_app.config.schema import AppConfig
from serve_app.errors import GensegError, InvalidRequest
from serve_app.models.interface import Detections, Pair
from serve_app.models.registry import load_parser, load_segmenter
from tests.graph.conftest import Graph

NAME = "engines"


@dataclass(frozen=True)
class Word:
    """Features of an image, its brightness, and of a phrase, what it says."""

    brightness: float = 0.0
    phrase: str = ""
    nbytes: int = 8


class Thresholder:
    """Finds a "lamp" in the left half of bright images; cannot read one word."""

    resolution_hw = (16, 16)

    def prepare(self, image: NDArray[np.uint8]) -> float:
        return float(image.mean()) / 255

    def encode(self, images: Sequence[float]) -> list[Word | GensegError]:
        return [Word(brightness=value) for value in images]

    def embed(self, phrases: Sequence[str]) -> list[Word | GensegError]:
        return [
            InvalidRequest("too hard", "entities") if each == "sesquipedalian" else Word(0, each) for each in phrases
        ]

    def detect(self, pairs: Sequence[Pair[Word, Word]]) -> list[Detections | GensegError]:
        return [self._answer(pair) for pair in pairs]

    def _answer(self, pair: Pair[Word, Word]) -> Detections:
        score = pair.image.brightness if pair.phrase.phrase == "lamp" else 0.0
        count = int(score > pair.threshold)
        logits = np.tile(np.array([[5, -5]], np.float32), (count, 1, 1))
        boxes = np.tile(np.array([[0, 0, 0.5, 1]], np.float32), (count, 1))
        return Detections(boxes, np.full(count, score, np.float32), score, logits)


class Commas:
    """Splits prompts at commas, many at once."""

    def generate_each(self, prompts: Sequence[str]) -> list[str | GensegError]:
        return [json.dumps([part.strip() for part in prompt.split(",")]) for prompt in prompts]


def load_thresholder(config: AppConfig) -> Thresholder:
    assert config.models.segmentation.model_name == "half"
    return Thresholder()


def load_commas(_: AppConfig) -> Commas:
    return Commas()


def plain(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), (level,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def toys(ray_serve: str) -> Iterator[Graph]:
    from ray import serve

    from serve_app.app import bind

    models = ModelsConfig(
        text_parser=TextParserModel().model_copy(update={"engine": "commas"}),
        segmentation=SegmentationModel(model_name="half").model_copy(update={"engine": "thresholder"}),
    )
    application = bind(
        AppConfig(models=models),
        load_parser=partial(load_parser, engines={**PARSERS, "commas": f"{__name__}:load_commas"}),
        load_segmenter=partial(load_segmenter, engines={**SEGMENTERS, "thresholder": f"{__name__}:load_thresholder"}),
    )
    serve.run(application, name=NAME, route_prefix=f"/{NAME}")
    yield Graph(f"{ray_serve}/{NAME}", serve.get_app_handle(NAME))
    serve.delete(NAME)


def test_a_parser_and_a_segmenter_from_the_registry_do_the_job(toys: Graph) -> None:
    response = toys.post(
        data={"prompt": "lamp, dog"},
        files=[("contextual", ("white.png", plain(255))), ("generated", ("black.png", plain(0)))],
    )
    assert response.status_code == 200, response.text
    document = response.json()
    assert document["entities"] == ["lamp", "dog"]
    (white_image,) = document["contextual_images"]
    assert [(each["object_id"], each["bbox"], each["score"]) for each in white_image["objects"]] == [
        ("lamp_0", [0, 0, 10, 10], 1.0)
    ]
    assert white_image["presence"] == {"lamp": 1.0, "dog": 0.0}
    assert document["generated_image"]["objects"] == []
    assert document["meta"]["models"]["segmentation"] == "half"


def test_a_phrase_that_the_segmenter_cannot_read_is_its_caller_s_error(toys: Graph) -> None:
    response = toys.post(data={"entities": '["sesquipedalian"]'}, files={"generated": ("black.png", plain(0))})
    assert response.status_code == 400
    assert response.json()["error"]["message"].endswith("too hard")
