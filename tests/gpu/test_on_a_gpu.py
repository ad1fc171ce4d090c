"""What only a GPU can show: same objects as on the CPU, out of memory halves a batch, exact where exact is asked."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from serve_app.config.models import SegmentationModel, TextParserModel
from serve_app.config.schema import DeviceConfig
from serve_app.errors import CheckpointError, DeviceOutOfMemory
from serve_app.models import devices
from serve_app.models.interface import Detections, Pair
from serve_app.models.memory import halve_when_full
from serve_app.models.qwen3_vl import EntityParser
from serve_app.models.sam3 import Sam3Segmenter
from tests.gpu import models

pytestmark = pytest.mark.gpu

SCENES = Path(__file__).parent.parent / "data" / "scenes"


def load(device: str, **options: object) -> Sam3Segmenter:
    if models.has_head_dtype():
        options = {"head_dtype": "float32", **options}
    return Sam3Segmenter.load(SegmentationModel(device=device, **options), DeviceConfig())


def objects(made: Sam3Segmenter, count: int = 6) -> list[Detections]:
    found = []
    for entry in json.loads((SCENES / "scenes.json").read_text())[:count]:
        image = np.array(Image.open(SCENES / entry["file"]).convert("RGB"))
        (features,) = models.encoded(made, [image])
        found += models.detected(made, [Pair(features, text, 0.5) for text in models.embedded(made, entry["entities"])])
    return found


@pytest.fixture(scope="module")
def on_cpu() -> list[Detections]:
    return objects(load("cpu", dtype="float32"))


@pytest.mark.parametrize(
    ("options", "close"),
    [
        ({"dtype": "float32"}, 1e-4),
        ({"dtype": "float32", "tf32": True}, 5e-3),
        ({"dtype": "bfloat16"}, 3e-2),
        ({"dtype": "auto", "tf32": True} | ({"head_dtype": "auto"} if models.has_head_dtype() else {}), 3e-2),
    ],
    ids=["float32", "tf32", "bfloat16", "auto"],
)
def test_the_gpu_finds_the_objects_of_the_cpu(
    on_cpu: list[Detections], options: dict[str, object], close: float
) -> None:
    assert sum(len(one.scores) for one in on_cpu) >= 10
    for ours, theirs in zip(objects(load("cuda", **options)), on_cpu, strict=True):
        assert len(ours.scores) == len(theirs.scores)
        # Two objects with nearly one score may change places.
        np.testing.assert_allclose(np.sort(ours.scores), np.sort(theirs.scores), atol=close)
        assert ours.presence == pytest.approx(theirs.presence, abs=close)
        if close < 1e-3:
            np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1e-3)
            assert np.count_nonzero((ours.mask_logits > 0) != (theirs.mask_logits > 0)) <= 1e-3 * ours.mask_logits.size


def test_positions_stay_float32_in_half_precision() -> None:
    exact = dict(load("cuda", dtype="float32")._vision.named_buffers())
    half = dict(load("cuda", dtype="bfloat16")._vision.named_buffers())
    names = [name for name in exact if "inv_freq" in name or "position_ids" in name]
    assert names
    for name in names:
        assert half[name].dtype == exact[name].dtype, name
        assert torch.equal(half[name], exact[name]), name


def error_of(product: object, exact: torch.Tensor) -> float:
    assert isinstance(product, torch.Tensor)
    return float((product.double() - exact).abs().max() / exact.abs().max())


@pytest.mark.parametrize("tf32", [False, True])
def test_one_flag_governs_products_and_convolutions(tf32: bool) -> None:
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this card has no TF32")
    load("cuda", tf32=tf32)
    torch.manual_seed(0)
    left, right = torch.randn(512, 512, device="cuda"), torch.randn(512, 512, device="cuda")
    image, kernel = torch.randn(1, 64, 64, 64, device="cuda"), torch.randn(64, 64, 3, 3, device="cuda")
    errors = [
        error_of(left @ right, left.double() @ right.double()),
        error_of(
            torch.nn.functional.conv2d(image, kernel), torch.nn.functional.conv2d(image.double(), kernel.double())
        ),
    ]
    assert all(error > 2e-5 for error in errors) if tf32 else all(error < 5e-6 for error in errors), errors


@pytest.fixture
def little_memory() -> Iterator[int]:
    """A wall of about 1 GiB beyond what is used; yields its bytes."""
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    room = 1 << 30
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + room) / total)
    yield room
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_batch_that_does_not_fit_is_halved(little_memory: int) -> None:
    each = little_memory // 3
    tried: list[int] = []

    def work(items: object) -> list[int]:
        assert isinstance(items, list)
        tried.append(len(items))
        held = torch.empty(len(items) * each, dtype=torch.uint8, device="cuda")
        return [int(held.numel()) for _ in items]

    assert halve_when_full(work, [1, 2, 3, 4], "image") == [2 * each] * 4
    assert tried == [4, 2, 2]


def test_one_item_that_does_not_fit_gets_the_error(little_memory: int) -> None:
    def work(_: object) -> list[int]:
        return [int(torch.empty(2 * little_memory, dtype=torch.uint8, device="cuda").numel())]

    (outcome,) = halve_when_full(work, [1], "image")
    assert isinstance(outcome, DeviceOutOfMemory)


def test_the_segmenter_answers_every_pair_behind_a_wall(caplog: pytest.LogCaptureFixture) -> None:
    made = load("cuda", dtype="float32")
    image = np.array(Image.open(SCENES / "scene_00.jpg").convert("RGB"))
    (features,), (text,) = models.encoded(made, [image]), models.embedded(made, ["star"])
    pairs = [Pair(features, text, 0.5)] * 256
    torch.cuda.reset_peak_memory_stats()
    free = models.detected(made, pairs, max_pairs=256)
    peak = torch.cuda.max_memory_reserved()
    gc.collect()
    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved()
    # Room for less than the whole batch took.
    wall = (held + (peak - held) * 0.6) / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(wall)
    try:
        behind = models.detected(made, pairs, max_pairs=256)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "out of device memory with 256" in caplog.text
    assert [len(one.scores) for one in behind] == [len(one.scores) for one in free]


def test_the_parser_reads_the_entities_of_the_cpu() -> None:
    entries = json.loads((SCENES.parent / "prompts.json").read_text())[:8]
    prompts = [entry["prompt"] for entry in entries]
    replies = [
        EntityParser.load(TextParserModel(device_map=place, dtype="float32"), DeviceConfig()).generate_each(prompts)
        for place in ("cpu", "cuda")
    ]
    assert replies[0] == replies[1]


def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(CheckpointError, match="cuda:63"):
        devices.resolve_device("cuda:63", 0)
