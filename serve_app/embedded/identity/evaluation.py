"""Measures the embedded identity model on sprites that were not used in training."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Dinov2Model

from serve_app.embedded.identity.model import CHECKPOINT_DIR, SIDE, THRESHOLD_KEY, embed
from serve_app.embedded.identity.sprites import Individual, Split, load_individuals
from serve_app.embedded.identity.views import make_view
from serve_app.embedded.segmenter.glyphs import find_font
from serve_app.images.crops import GREY

LEVELS = 4
"""Levels of each channel in the colour histogram. The model is compared with this histogram."""

GREY_WITHIN = 6
"""A pixel counts as background if none of its channels differs from the crop's grey by more than this (of 255)."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of views to compare: each array is (2, P) int64 and holds indices of views.

    Attributes:
        same: views of the same individual.
        other_colour: views of the same sprite in different colours.
        like_kind: views of different sprites of one kind, with similar colours.
    """

    same: NDArray[np.int64]
    other_colour: NDArray[np.int64]
    like_kind: NDArray[np.int64]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the identity model's evaluation."""
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT_DIR, help="checkpoint folder to measure")
    parser.add_argument("--split", choices=("validation", "test"), default="test", help="set of sprites to use")
    parser.add_argument("--views", type=int, default=4, help="number of views of each individual")
    parser.add_argument("--seed", type=int, default=1, help="seed of the views")
    parser.add_argument(
        "--threshold", type=float, help="cosine at which errors are counted; default: where both error rates are equal"
    )
    parser.add_argument("--font", type=Path, help="path of NotoColorEmoji.ttf; default: search the usual folders")
    parser.add_argument(
        "--write-threshold",
        action="store_true",
        help=f"write the threshold to the checkpoint's config.json as {THRESHOLD_KEY}; needs --split validation",
    )


def run(args: argparse.Namespace) -> int:
    """Measure the checkpoint and print the figures as JSON.

    Returns:
        The exit status: 0, or 2 for --write-threshold without --split validation.
    """
    if args.write_threshold and args.split != "validation":
        print("--write-threshold needs --split validation: never choose a threshold on the test split", file=sys.stderr)
        return 2
    model = Dinov2Model.from_pretrained(args.checkpoint, dtype=torch.float32).eval()
    figures = evaluate(model, find_font(args.font), args.split, args.views, args.seed, args.threshold)
    print(json.dumps(figures, indent=2))
    if args.write_threshold:
        write_threshold(args.checkpoint, figures["threshold"])
    return 0


def write_threshold(folder: Path, threshold: float) -> None:
    """Write a threshold to a checkpoint's config.json, rounded to three decimals.

    Args:
        folder: the checkpoint.
        threshold: a cosine, in [-1, 1].
    """
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | {THRESHOLD_KEY: round(threshold, 3)}
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def evaluate(
    model: Dinov2Model, font: Path, split: Split, views: int, seed: int, threshold: float | None = None
) -> dict[str, float]:
    """Compare views of the individuals of one split.

    Args:
        model: in evaluation mode.
        font: the Noto Color Emoji font.
        split: "validation" or "test".
        views: number of views of each individual, at least 2.
        seed: seed of the views.
        threshold: the cosine at which errors are reported; None means where both kinds of error are equally frequent.

    Returns:
        Figures by name. For the model and for a colour histogram: the area under the ROC curve, for views of the same
        individual against other colours of its sprite, and against a similar sprite of its kind. For the model: the
        equal error rate over both kinds of pairs, the threshold, and the two error rates at the threshold.
    """
    individuals = load_individuals(font, split)
    rng = np.random.default_rng(seed)
    crops = np.stack([make_view(rng, each.picture, SIDE) for each in individuals for _ in range(views)])
    histograms = np.stack([histogram(crop) for crop in crops])
    embeddings = _embeddings(model, crops)
    pairs = choose_pairs(individuals, histograms, views)
    figures: dict[str, float] = {"individuals": len(individuals), "views": len(crops)}
    for name, vectors in (("", embeddings), ("histogram_", histograms)):
        same = cosines(vectors, pairs.same)
        for question, negatives in (("other_colour", pairs.other_colour), ("like_kind", pairs.like_kind)):
            figures[f"{name}auc_{question}"] = area_under_curve(same, cosines(vectors, negatives))
    different = cosines(embeddings, np.concatenate([pairs.other_colour, pairs.like_kind], axis=1))
    same = cosines(embeddings, pairs.same)
    rate, at = equal_error(same, different)
    at = at if threshold is None else threshold
    return figures | {
        "equal_error_rate": rate, "threshold": at,
        "same_below": float((same < at).mean()), "different_above": float((different >= at).mean()),
    }  # fmt: skip


def choose_pairs(individuals: Sequence[Individual], histograms: NDArray[np.float64], views: int) -> Pairs:
    """Choose the pairs of views: all of the same individual, and some of two individuals that are hard to tell apart.

    Args:
        individuals: M individuals.
        histograms: (M x views, C) float64, the colour histogram of each view, in the order of the individuals.
        views: number of views of each individual.
    """
    means = histograms.reshape(len(individuals), views, -1).mean(1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    alike = means @ means.T
    same, other_colour, like_kind = [], [], []
    for place, each in enumerate(individuals):
        first = place * views
        same += [(first + a, first + b) for a in range(views) for b in range(a + 1, views)]
        recoloured = [i for i, other in enumerate(individuals) if other.glyph == each.glyph and i > place]
        other_colour += [(first + v, i * views + v) for i in recoloured for v in range(views)]
        same_kind = [i for i, other in enumerate(individuals) if other.kind == each.kind and other.glyph != each.glyph]
        nearest = sorted(same_kind, key=lambda i: -alike[place, i])[:1]
        like_kind += [(first + a, i * views + b) for i in nearest for a in range(views) for b in range(views)]
    return Pairs(*(np.array(pairs).T for pairs in (same, other_colour, like_kind)))


def histogram(crop: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Count the colours of a crop's object.

    Args:
        crop: (H, W, 3) uint8 RGB, the object on grey.

    Returns:
        (LEVELS ** 3,) float64 with L2 norm 1; zeros if the crop shows grey only.
    """
    shown = (np.abs(crop.astype(int) - GREY) > GREY_WITHIN).any(axis=-1)
    bins = crop[shown].astype(int) * LEVELS // 256
    counts = np.bincount(bins @ np.array([LEVELS * LEVELS, LEVELS, 1]), minlength=LEVELS**3).astype(np.float64)
    return counts / max(float(np.linalg.norm(counts)), 1.0)


def cosines(vectors: NDArray[np.floating], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute the cosines of pairs of vectors.

    Args:
        vectors: (N, D), rows with L2 norm 1.
        pairs: (2, P) indices of rows.

    Returns:
        (P,) float64 in [-1, 1].
    """
    compared: NDArray[np.float64] = (vectors[pairs[0]] * vectors[pairs[1]]).sum(axis=1, dtype=np.float64)
    return compared


def area_under_curve(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """Return the share of (positive, negative) pairs in which the positive is higher, in [0, 1]; a tie counts half.

    >>> area_under_curve(np.array([0.9, 0.5]), np.array([0.1, 0.5]))
    0.875
    """
    ranked = np.sort(negative)
    below, up_to = np.searchsorted(ranked, positive, "left"), np.searchsorted(ranked, positive, "right")
    return float((below + up_to).mean() / 2 / len(negative))


def equal_error(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> tuple[float, float]:
    """Find the threshold at which both kinds of error are equally frequent.

    Args:
        positive: (P,) cosines of the same individual, at least one.
        negative: (N,) cosines of different individuals, at least one.

    Returns:
        The error rate, in [0, 1], and the threshold.
    """
    candidates = np.unique(np.concatenate([positive, negative]))
    missed = np.searchsorted(np.sort(positive), candidates, "left") / len(positive)
    accepted = 1 - np.searchsorted(np.sort(negative), candidates, "left") / len(negative)
    best = int(np.argmin(np.abs(missed - accepted)))
    return float((missed[best] + accepted[best]) / 2), float(candidates[best])


@torch.inference_mode()
def _embeddings(model: Dinov2Model, crops: NDArray[np.uint8], batch: int = 64) -> NDArray[np.float32]:
    parts = []
    for start in range(0, len(crops), batch):
        parts.append(embed(model, torch.from_numpy(crops[start : start + batch]).permute(0, 3, 1, 2)).numpy())
    return np.concatenate(parts)
