"""Makes the segmenter's training batches: scenes, phrases about them, and padded targets.

Batch `i` depends on the seed and on `i` only, so a continued run gets the same batches as an uninterrupted one.
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
"""Largest number of objects in a scene."""

MAX_ABSENT = 2
"""One to this many phrases of each scene are reserved for absent things."""

TARGET_SIZE = 2 * MASK_SIZE
"""Side of the grid on which masks are compared. It is finer than the model's 64 x 64 cells, because a mask's edge is
where the interpolated logits cross 0, as at inference. Targets of 64 x 64 could shift the edge by half a cell."""

PATCH_GRID = IMAGE_SIZE // PATCH_SIZE
"""Patches along each side of the model's square input."""

MIN_PATCH_COVERED = 0.05
"""An object that covers less than this share of a patch does not own it."""

SCENE_AREA_RANGE = (240**2, 400**2)
"""Smallest and largest number of pixels of a training scene. Scenes are larger than the model's input, as usual
pictures are, and small enough to draw quickly."""


@dataclass
class SceneBatch:
    """A batch of B scenes with P phrases each; N = B * P, sorted by scene; K = MAX_OBJECTS.

    Attributes:
        pixels: (B, 3, 224, 224) uint8 RGB.
        input_ids: (N, 16) int64.
        attention_mask: (N, 16) int64, 1 at tokens and 0 at padding.
        boxes: (N, K, 4) float32 xyxy in [0, 1], the boxes of the named objects; 0 beyond `counts`.
        counts: (N,) int64, the number of named objects; 0 if the concept is absent.
        masks: (M, K, 128, 128) float32 in [0, 1], the share of each cell that an object covers. Only the phrases of
            the first `num_mask_scenes` scenes have masks: M = `num_mask_scenes` * P.
        owners: (N, 256) int64, for each patch, row by row, the index of the named object that covers most of it; -1 if
            none does.
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
    """Training batches by index, drawn on demand.

    Args:
        sprites: pictures of the concepts.
        tokenizer: the segmenter's tokenizer.
        seed: seed of all batches.
        num_scenes: B, scenes in a batch.
        num_phrases: P, phrases for each scene, at least MAX_ABSENT. At least one of them names an absent thing.
        num_mask_scenes: scenes that train the masks, too. Masks take as much time as all the rest, and need fewer
            scenes.
    """

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
    """Yield batches in order.

    Args:
        batches: the batches by index.
        numbers: indices of the batches to yield.
        workers: processes that make batches ahead of time; 0 makes each batch in this process when it is needed.
    """
    yield from DataLoader(batches, batch_size=None, sampler=numbers, num_workers=workers)


def shrink(scene: Scene) -> torch.Tensor:
    """Resize a scene to the model's square as the image processor does: (3, 224, 224) uint8 RGB."""
    pixels = torch.from_numpy(scene.image.copy()).permute(2, 0, 1)
    resized: torch.Tensor = tvf.resize(pixels, [IMAGE_SIZE, IMAGE_SIZE], antialias=True)
    return resized


def mask_grid(scene: Scene, side: int) -> torch.Tensor:
    """Compute the share of each grid cell that each of N objects covers: (N, side, side) float32 in [0, 1]."""
    masks = torch.from_numpy(scene.masks).float()
    if not len(masks):
        return torch.zeros(0, side, side)
    return F.interpolate(masks[None], size=(side, side), mode="area")[0]


def patch_owners(covered: torch.Tensor) -> torch.Tensor:
    """Find the object that owns each patch.

    Args:
        covered: (N, G, G) float32 in [0, 1], the share of each patch that each object covers; N may be 0.

    Returns:
        (G * G,) int64, row by row: the object's index, or -1 if none covers more than `MIN_PATCH_COVERED`.
    """
    # The first plane means "no object".
    nobody = torch.full((1, *covered.shape[1:]), MIN_PATCH_COVERED)
    return torch.cat([nobody, covered]).argmax(0).flatten() - 1


def _relative_boxes(scene: Scene) -> torch.Tensor:
    height, width = scene.image.shape[:2]
    return torch.from_numpy(scene.boxes()).float() / torch.tensor([width, height, width, height])


def _pad(rows: torch.Tensor) -> torch.Tensor:
    padded = rows.new_zeros(MAX_OBJECTS, *rows.shape[1:])
    padded[: len(rows)] = rows
    return padded
