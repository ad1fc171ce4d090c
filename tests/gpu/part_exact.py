"""The models that ship inside, on this GPU, against the plain loop of stock transformers on the CPU in float32.

For the segmenter each of 20 held-out scenes with its own entities and one that is absent; for the parser every prompt
of tests/data/prompts.json. Says how many objects differ, and how far scores, boxes and masks lie apart.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import Sam3Model, Sam3Processor

from serve_app.config.models import SegmentationModel, TextParserModel
from serve_app.config.schema import DeviceConfig
from serve_app.entities.chat import read_entities
from serve_app.models import locations
from serve_app.models.interface import Detections, Pair
from serve_app.models.qwen3_vl import EntityParser
from serve_app.models.sam3 import Sam3Segmenter
from tests.benchmarks.rows import Row, limited
from tests.gpu import models
from tests.gpu.plain_loop import PlainLoop

DATA = Path(__file__).parent.parent / "data"
ABSENT = "trombone"
THRESHOLD = 0.5
MEAN_SCORE_ERROR, MASK_IOU = 0.001, 0.99


@dataclass
class Scene:
    """A picture, its phrases, and what the plain loop finds for each."""

    image: Image.Image
    phrases: tuple[str, ...]
    found: list[dict[str, Tensor]]


@dataclass
class Differences:
    """How far one run lies from the plain loop."""

    objects: int = 0
    flipped: int = 0
    scores: list[float] = field(default_factory=list)
    boxes: list[float] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)


def scenes(count: int) -> list[Scene]:
    """Read the scenes and run the plain loop over them, on the CPU in float32."""
    folder = locations.resolve("embedded", "segmenter")
    plain = PlainLoop(
        Sam3Model.from_pretrained(folder, dtype=torch.float32).eval(), Sam3Processor.from_pretrained(folder)
    )
    read = []
    for entry in json.loads((DATA / "scenes" / "scenes.json").read_text())[:count]:
        image = Image.open(DATA / "scenes" / entry["file"]).convert("RGB")
        phrases = (*entry["entities"], ABSENT)
        read.append(Scene(image, phrases, plain.run([image], phrases, [THRESHOLD] * len(phrases))))
    return read


def run(device: torch.device, tiny: bool) -> list[Row]:
    """Compare every combination of types; prints as it goes."""
    expected = scenes(4 if tiny else 20)
    rows: list[Row] = []
    for dtype, head, tf32 in _combinations():
        options: dict[str, Any] = {"head_dtype": head} if models.has_head_dtype() else {}
        config = SegmentationModel(device=str(device), dtype=dtype, tf32=tf32, **options)
        made = Sam3Segmenter.load(config, DeviceConfig())
        rows.append(_compared(made, expected, f"vision {dtype}, head {head}{', tf32' if tf32 else ''}"))
        del made
        models.release(device)
    return [*rows, _parser(device, 6 if tiny else None)]


def _combinations() -> list[tuple[str, str, bool]]:
    found = [("float32", "float32", False), ("float32", "float32", True)]
    found += [("bfloat16", "float32", False), ("bfloat16", "float32", True)]
    return found + [(vision, head, True) for head in models.head_dtypes()[1:] for vision in ("bfloat16", "float16")]


def _compared(made: Sam3Segmenter, expected: Sequence[Scene], name: str) -> Row:
    seen = Differences()
    for scene in expected:
        (features,) = models.encoded(made, [np.array(scene.image)])
        texts = models.embedded(made, scene.phrases)
        found = models.detected(made, [Pair(features, text, THRESHOLD) for text in texts])
        for ours, theirs in zip(found, scene.found, strict=True):
            compare(ours, theirs, (scene.image.height, scene.image.width), seen)
    figures = {
        "objects": seen.objects,
        "score_error_mean": float(np.mean(seen.scores)),
        "score_error_max": max(seen.scores),
        "box_error_max": max(seen.boxes),
        "mask_iou_mean": float(np.mean(seen.ious)),
        "mask_iou_min": min(seen.ious),
    }
    said = ", ".join(f"{key} {value:.6g}" for key, value in figures.items())
    print(f"  {name}: {seen.flipped} flipped, {said}", flush=True)
    return limited(f"{name}: objects found by one side only", seen.flipped, unit="", at_most=0, more=figures)


def compare(ours: Detections, theirs: dict[str, Tensor], size_hw: tuple[int, int], seen: Differences) -> None:
    """Match objects by their masks, the best first, and note the differences of the matched."""
    masks = picture_masks(ours.mask_logits, size_hw)
    boxes = ours.boxes * np.array([size_hw[1], size_hw[0]] * 2)
    left = [*range(len(ours.scores))]
    for score, box, mask in zip(theirs["scores"], theirs["boxes"], theirs["masks"], strict=True):
        seen.objects += 1
        overlaps = [iou(masks[index], mask.numpy() > 0) for index in left]
        if not left or max(overlaps) < 0.5:
            seen.flipped += 1
            continue
        index = left.pop(int(np.argmax(overlaps)))
        seen.ious.append(max(overlaps))
        seen.scores.append(abs(float(ours.scores[index]) - float(score)))
        seen.boxes.append(float(np.abs(boxes[index] - box.numpy()).max() / max(size_hw)))
    seen.flipped += len(left)


def picture_masks(logits: NDArray[np.float32], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Resize masks as the stock post-processing does: sigmoid, bilinear, above a half."""
    if not len(logits):
        return np.empty((0, *size_hw), np.bool_)
    grid = torch.from_numpy(np.ascontiguousarray(logits, dtype=np.float32)).sigmoid()[None]
    resized = torch.nn.functional.interpolate(grid, size=size_hw, mode="bilinear", align_corners=False)
    masks: NDArray[np.bool_] = (resized[0] > 0.5).numpy()
    return masks


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Overlap of two masks; 1 for two empty ones."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 1.0


def _parser(device: torch.device, count: int | None) -> Row:
    prompts = [entry["prompt"] for entry in json.loads((DATA / "prompts.json").read_text())][:count]
    runs: list[list[list[str]]] = []
    for place, dtype in (("cpu", "float32"), (str(device), "float32"), (str(device), "bfloat16")):
        parser = EntityParser.load(TextParserModel(device_map=place, dtype=dtype), DeviceConfig())
        replies = [reply for at in range(0, len(prompts), 8) for reply in parser.generate_each(prompts[at : at + 8])]
        runs.append([read_entities(reply) for reply in replies if isinstance(reply, str)])
    first, *others = runs
    differ = [sum(a != b for a, b in zip(first, other, strict=True)) for other in others]
    print(f"  parser: of {len(prompts)} prompts {differ[0]} differ in float32, {differ[1]} in bfloat16", flush=True)
    return limited(
        f"parser: prompts of {len(prompts)} with other entities than on the CPU, float32",
        differ[0],
        unit="",
        at_most=0,
        more={"bfloat16": differ[1]},
    )
