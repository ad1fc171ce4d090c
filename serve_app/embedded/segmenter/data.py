"""Training batches for the segmenter: scenes, phrases about them, and padded targets.

Batch `i` depends on the seed and on `i` only, so a resumed run sees what an unbroken one would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as tvf
from transformers import CLIPTokenizer

from serve_app.embedded.segmenter.glyphs import SpriteLibrary
from serve_app.embedded.segmenter.model import IMAGE_SIZE, MASK_SIZE, MAX_TOKENS, PATCH_SIZE
from serve_app.embedded.segmenter.phrases import Query, make_queries
from serve_app.embedded.segmenter.scenes import OBJECT_COUNTS, Scene, choose_size_wh, make_scene

MAX_OBJECTS = max(OBJECT_COUNTS)
MAX_ABSENT = 2
"""Of a scene's phrases so many at most are kept for things that are not there; at least one is."""

TARGET_SIZE = 2 * MASK_SIZE
"""Side of the grid on which masks are compared. Between the model's own 64 x 64 cells the edge lies where interpolated
logits cross 0, as at inference; targets of that coarse grid would leave it half a cell off."""

PATCH_GRID = IMAGE_SIZE // PATCH_SIZE
"""Patches along each side of the model's square."""

MIN_PATCH_COVERED = 0.05
"""A patch belongs to an object that covers at least this part of it."""

SCENE_AREA_RANGE = (240**2, 400**2)
"""Pixels of a training scene: larger than the model's input, as at inference, and still quick to draw."""


@dataclass
class SceneBatch:
    """B scenes, P phrases each (N = B * P, the phrases of a scene together), K = MAX_OBJECTS.

    Attributes:
        pixels: (B, 3, 224, 224) uint8.
        input_ids: (N, 16) int64.
        attention_mask: (N, 16) int64, 1 where a token is real.
        boxes: xyxy in [0, 1] of the named objects, (N, K, 4) float32, zero beyond `counts`.
        counts: number of named objects, (N,) int64; 0 says that the concept is absent.
        masks: covered part of each cell of a grid finer than the model's, (M, K, 128, 128) float32 in [0, 1], for
            the phrases of the first scenes only: M = `num_mask_scenes` * P.
        owners: for each patch the number of the named object that covers most of it, (N, 256) int64, row by row; -1
            where none covers it.
    """

    pixels: torch.Tensor
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    boxes: torch.Tensor
    counts: torch.Tensor
    masks: torch.Tensor
    owners: torch.Tensor

    def to(self, device: str) -> SceneBatch:
        """Copy the batch to a device."""
        return SceneBatch(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


class SceneBatches(Dataset[SceneBatch]):
    """Batches by index, drawn on demand."""

    def __init__(
        self,
        sprites: SpriteLibrary,
        tokenizer: CLIPTokenizer,
        *,
        seed: int,
        num_scenes: int,
        num_phrases: int,
        num_mask_scenes: int,
    ) -> None:
        """Choose the batch shape.

        Args:
            sprites: pictures of the concepts.
            tokenizer: the segmenter's tokenizer.
            seed: chooses the run's data.
            num_scenes: B.
            num_phrases: P, at least MAX_ABSENT; one or more of them name something that is absent.
            num_mask_scenes: scenes whose masks are trained too; masks cost as much as all the rest and learn sooner.
        """
        self._sprites, self._tokenizer, self._seed = sprites, tokenizer, seed
        self._num_scenes, self._num_phrases, self._num_mask_scenes = num_scenes, num_phrases, num_mask_scenes

    def __getitem__(self, index: int) -> SceneBatch:
        rng = np.random.default_rng([self._seed, index])
        scenes: list[Scene] = []
        queries: list[tuple[int, Query]] = []
        for number in range(self._num_scenes):
            size_wh = choose_size_wh(rng, int(rng.uniform(*SCENE_AREA_RANGE)))
            scene = make_scene(rng, self._sprites, size_wh)
            scenes.append(scene)
            absent = int(rng.integers(1, MAX_ABSENT + 1))
            asked = make_queries(rng, scene.sprites, self._num_phrases - absent, self._num_phrases)
            queries += [(number, query) for query in asked]
        tokens: Any = self._tokenizer(
            [query.phrase for _, query in queries],
            padding="max_length",
            max_length=MAX_TOKENS,
            truncation=True,
            return_tensors="pt",
        )
        boxes = [_relative_boxes(scene) for scene in scenes]
        grids = [mask_grid(scene, TARGET_SIZE) for scene in scenes[: self._num_mask_scenes]]
        patches = [mask_grid(scene, PATCH_GRID) for scene in scenes]
        counts = torch.tensor([len(query.objects) for _, query in queries])
        with_masks = queries[: self._num_mask_scenes * self._num_phrases]
        return SceneBatch(
            pixels=torch.stack([shrink(scene) for scene in scenes]),
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            boxes=torch.stack([_pad(boxes[number][list(query.objects)]) for number, query in queries]),
            counts=counts,
            masks=torch.stack([_pad(grids[number][list(query.objects)]) for number, query in with_masks]),
            owners=torch.stack([patch_owners(patches[number][list(query.objects)]) for number, query in queries]),
        )


def loaded(batches: Dataset[SceneBatch], numbers: range, workers: int) -> Iterator[SceneBatch]:
    """Make batches one after another.

    Args:
        batches: by number.
        numbers: which of them, in order.
        workers: processes that make them ahead of time; 0: they are made here, on demand.
    """
    yield from DataLoader(batches, batch_size=None, sampler=numbers, num_workers=workers)


def shrink(scene: Scene) -> torch.Tensor:
    """Squash a scene to the model's square as the image processor does: (3, 224, 224) uint8."""
    pixels = torch.from_numpy(scene.image.copy()).permute(2, 0, 1)
    resized: torch.Tensor = tvf.resize(pixels, [IMAGE_SIZE, IMAGE_SIZE], antialias=True)
    return resized


def mask_grid(scene: Scene, side: int) -> torch.Tensor:
    """Measure how much of each cell of a grid every object covers: (N, side, side) float32 in [0, 1]."""
    masks = torch.from_numpy(scene.masks).float()
    if not len(masks):
        return torch.zeros(0, side, side)
    return F.interpolate(masks[None], size=(side, side), mode="area")[0]


def patch_owners(covered: torch.Tensor) -> torch.Tensor:
    """Tell which object each patch belongs to.

    Args:
        covered: part of each patch that each object covers, (N, G, G) in [0, 1]; N may be 0.

    Returns:
        (G * G,) int64: the object's number, or -1 where none covers the patch by `MIN_PATCH_COVERED`.
    """
    # The first plane stands for nobody.
    nobody = torch.full((1, *covered.shape[1:]), MIN_PATCH_COVERED)
    return torch.cat([nobody, covered]).argmax(0).flatten() - 1


def _relative_boxes(scene: Scene) -> torch.Tensor:
    height, width = scene.image.shape[:2]
    return torch.from_numpy(scene.boxes()).float() / torch.tensor([width, height, width, height])


def _pad(rows: torch.Tensor) -> torch.Tensor:
    padded = rows.new_zeros(MAX_OBJECTS, *rows.shape[1:])
    padded[: len(rows)] = rows
    return padded
