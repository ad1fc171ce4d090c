"""Models that take their time where a prompt or an image tells them to. Loaded inside the replicas."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from serve_app.config.schema import AppConfig
from serve_app.errors import GensegError
from tests.graph.fakes import FakeFeatures, FakeSegmenter

PASS_S = 0.2
"""Of a slow pass, whatever the size of its batch."""
SLOW_PROMPT, SLOW_WIDTH = "SLOWLY", 29
"""A word of prompts and a width of images that make a pass slow."""


class SlowParser:
    """Names the words of the prompt that are written in capitals, in passes as a language model's."""

    def generate_each(self, prompts: Sequence[str]) -> list[str | GensegError]:
        if any(SLOW_PROMPT in prompt for prompt in prompts):
            time.sleep(PASS_S)
        return [json.dumps([word.lower() for word in prompt.split() if word.isupper()]) for prompt in prompts]


class SlowSegmenter(FakeSegmenter):
    """Finds one object that fills the image."""

    def encode(self, widths: Sequence[int]) -> list[FakeFeatures | GensegError]:
        if SLOW_WIDTH in widths:
            time.sleep(PASS_S)
        return super().encode(widths)


def build(args: dict[str, Any]) -> Any:
    """The graph around these models, for a Serve config's `import_path`."""
    from serve_app.app import bind
    from serve_app.config.files import app_config_from

    return bind(
        app_config_from(args), load_parser=load_parser, load_segmenter=load_segmenter, load_identity=load_identity
    )


def load_parser(_: AppConfig) -> SlowParser:
    """Stand in for registry.load_parser."""
    return SlowParser()


def load_identity(_: AppConfig) -> None:
    """Stand in for registry.load_identity: no individuals are compared here."""


def load_segmenter(_: AppConfig) -> Any:
    """Stand in for registry.load_segmenter."""
    return SlowSegmenter()
