"""The memory of configs/*gpu*.yaml: what the comments say is what the keys add up to, and it is within each wall."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.config.files import load_file

ROOT = Path(__file__).parent.parent
MEASURED = (ROOT / "tests" / "gpu" / "measured" / "h200.txt").read_text()

CARDS = {"one-gpu-24gb": 22.0, "one-gpu": 39.4, "one-gpu-80gb": 79.1, "multi-gpu": 22.0, "openai-parser": 22.0}
"""GiB that a card shows, which is less than its name says."""
ONE_GPU = [name for name in CARDS if name.startswith("one-gpu")]
CONTEXT = 0.5
IDENTITY = 0.4
PARSERS = {
    # while loading, and then, without the vision tower, in GiB; hidden and intermediate size
    "Qwen/Qwen3-VL-4B-Instruct": (8.27, 7.49, 2560, 9728),
    "Qwen/Qwen3-VL-8B-Instruct": (16.33, 15.26, 4096, 12288),
}
"""Counted on the models' shapes, in bfloat16. Both have 36 layers with 8 heads of 128 for keys and values."""
PROMPT_TOKENS = 1500
TOKEN_BYTES = 2 * 36 * 8 * 128 * 2
GIB = 2**30


def measured(step: str) -> float:
    """GiB of a step on the H200, with a head in float16."""
    (found,) = re.findall(rf"^  float16 head: {step}: ([\d.]+) GiB", MEASURED, re.MULTILINE)
    return float(found)


def application(name: str) -> Any:
    (found,) = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())["applications"]
    return found


def deployment(name: str, wanted: str) -> Any:
    (found,) = [each for each in application(name)["deployments"] if each["name"] == wanted]
    return found


def parser_parts(name: str) -> tuple[float, float]:
    """GiB while the parser loads, and while it reads a full batch."""
    app = load_file(ROOT / "configs" / f"{name}.yaml").app
    loading, weights, hidden, inner = PARSERS[app.models.text_parser.model_name]
    tokens = app.batching.max_prompts * PROMPT_TOKENS
    # A layer's residual, normalised input, queries and output; the gate, its product and the other projection.
    layer = tokens * 2 * (4 * hidden + 3 * inner)
    return loading, weights + (tokens * TOKEN_BYTES + layer) / GIB


def segmenter_parts(name: str) -> float:
    """GiB of the segmenter with everything at its bound at once."""
    app = load_file(ROOT / "configs" / f"{name}.yaml").app
    images = app.batching.max_pixels // 1008**2
    assert app.batching.max_pixels == images * 1008**2
    under_way: int = deployment(name, "SegmenterDeployment")["max_ongoing_requests"]
    return (
        measured("weights")
        + app.batching.max_pairs * measured("a pair with masks")
        + images * measured("vision pass of 8") / 8
        + app.cache.vision_bytes / GIB
        + under_way * measured("an image's features")
        + IDENTITY
    )


@pytest.mark.parametrize("name", CARDS)
def test_everything_at_once_is_within_the_memory_of_its_process(name: str) -> None:
    app = load_file(ROOT / "configs" / f"{name}.yaml").app
    whole = CARDS[name] - CONTEXT
    share = app.models.segmentation.gpu_memory_fraction
    assert segmenter_parts(name) <= (whole if share is None else share * CARDS[name])
    if app.models.text_parser.engine == "transformers":
        share = app.models.text_parser.gpu_memory_fraction
        assert max(parser_parts(name)) <= (whole if share is None else share * CARDS[name])


@pytest.mark.parametrize("name", ONE_GPU)
def test_the_shares_of_one_gpu_leave_room_for_both_contexts_and_are_one_gpu_for_ray(name: str) -> None:
    models = load_file(ROOT / "configs" / f"{name}.yaml").app.models
    shares = [models.text_parser.gpu_memory_fraction or 0, models.segmentation.gpu_memory_fraction or 0]
    assert all(shares)
    assert sum(shares) * CARDS[name] + 2 * CONTEXT <= CARDS[name]
    gpus = [
        deployment(name, each)["ray_actor_options"]["num_gpus"] for each in ("ParserDeployment", "SegmenterDeployment")
    ]
    assert sum(gpus) == 1


@pytest.mark.parametrize("name", ONE_GPU)
def test_the_comment_adds_up_as_the_keys_do(name: str) -> None:
    text = (ROOT / "configs" / f"{name}.yaml").read_text()
    app = load_file(ROOT / "configs" / f"{name}.yaml").app
    said = re.findall(r"needs ([\d.]+) GiB, (?:may take|has) +(0\.\d+) x ([\d.]+) = +([\d.]+) GiB", text)
    shares = [app.models.text_parser.gpu_memory_fraction, app.models.segmentation.gpu_memory_fraction]
    assert [float(share) for _, share, _, _ in said[:2]] == shares
    assert sum(float(share) for _, share, _, _ in said) == pytest.approx(1)
    assert {float(card) for _, _, card, _ in said} == {CARDS[name]}
    for _, share, card, product in said:
        assert float(product) == pytest.approx(float(share) * float(card), abs=0.06)
    for (used, *_), parts in zip(said, (max(parser_parts(name)), segmenter_parts(name)), strict=False):
        assert float(used) == pytest.approx(parts, abs=0.1)  # a sum of rounded parts
    under_way: int = deployment(name, "SegmenterDeployment")["max_ongoing_requests"]
    for count, what, unit in (
        (app.batching.max_pairs, "pairs", measured("a pair with masks")),
        (under_way, r"images in progress \(max_ongoing_requests\)", measured("an image's features")),
    ):
        (said_count, product) = re.findall(rf"(\d+) {what} x [\d.]+ GiB = ([\d.]+) GiB", text)[0]
        assert int(said_count) == count
        assert float(product) == pytest.approx(count * unit, abs=0.06)
    (images, passes) = re.findall(r"vision pass of (\d+) images ([\d.]+) GiB", text)[0]
    assert int(images) * 1008**2 == app.batching.max_pixels
    assert float(passes) == pytest.approx(int(images) * measured("vision pass of 8") / 8, abs=0.06)
    (cache,) = re.findall(r"cache (\d+) GiB", text)
    assert int(cache) * GIB == app.cache.vision_bytes
    (prompts,) = re.findall(r"\((\d+) prompts x 1,500 tokens x 144 KiB\)", text)
    assert int(prompts) == app.batching.max_prompts
