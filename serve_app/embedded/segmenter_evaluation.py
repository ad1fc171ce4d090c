"""Measures a segmenter checkpoint on held-out synthetic scenes, through the stock classes only.

`from_pretrained`, `Sam3Processor`, the model's forward and `post_process_instance_segmentation`, then pycocotools.
`python -m serve_app.embedded.evaluate segmenter --help` lists the options.
"""

import argparse
import contextlib
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from transformers import Sam3Model, Sam3Processor

from serve_app.embedded.glyphs import SpriteLibrary, find_font, load_sprites
from serve_app.embedded.scene_phrases import Query, make_queries
from serve_app.embedded.scenes import Scene, make_scene
from serve_app.embedded.segmenter_model import CHECKPOINT_DIR

SIZES_WH = ((640, 480), (640, 480), (480, 640), (800, 450), (450, 800), (512, 512), (960, 640), (320, 240))
SEED = 20_000_000
"""First word of the held-out scenes' seeds; training seeds its batches with small numbers."""

MAX_PRESENT, NUM_QUERIES = 4, 6
"""Phrases asked of a scene: up to four that are there, the rest absent, most of them near misses."""

SCORE_THRESHOLD, MATCH_IOU = 0.5, 0.5
CANDIDATE_THRESHOLD = 0.01
"""COCOeval ranks by score; what scores below this cannot matter."""


@dataclass(frozen=True)
class Answer:
    """What the checkpoint found for one phrase in one scene.

    Attributes:
        query: the question and its ground truth.
        truth: COCO RLE of the named objects.
        found: COCO RLE of the detections, best first.
        scores: of the detections, in [0, 1].
        presence: probability that the concept is in the picture.
        size_wh: width and height of the picture in pixels.
    """

    query: Query
    truth: list[dict[str, Any]]
    found: list[dict[str, Any]]
    scores: list[float]
    presence: float
    size_wh: tuple[int, int]


@dataclass
class Tally:
    """Counts at the threshold, and the mask IoU of each match."""

    hits: int = 0
    false_alarms: int = 0
    misses: int = 0
    presence: list[bool] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)

    def add(self, answer: Answer) -> None:
        """Match one answer's detections above the threshold to the objects, best score first, at IoU 0.5."""
        kept = [rle for rle, score in zip(answer.found, answer.scores, strict=True) if score > SCORE_THRESHOLD]
        ious = match_ious(kept, answer.truth)
        self.hits += len(ious)
        self.ious += ious
        self.false_alarms += len(kept) - len(ious)
        self.misses += len(answer.truth) - len(ious)
        self.presence.append((answer.presence > 0.5) == bool(answer.truth))

    def figures(self) -> dict[str, float | int | None]:
        """Summarise; a rate of nothing is None."""
        return {
            "phrases": len(self.presence),
            "objects": self.hits + self.misses,
            "precision": _rate(self.hits, self.hits + self.false_alarms),
            "recall": _rate(self.hits, self.hits + self.misses),
            "mask_iou": _rate(sum(self.ious), len(self.ious)),
            "presence_accuracy": _rate(sum(self.presence), len(self.presence)),
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the segmenter's evaluation."""
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT_DIR, help="checkpoint folder")
    parser.add_argument("--scenes", type=int, default=300, help="number of held-out scenes")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes another held-out set")
    parser.add_argument("--output", type=Path, default=None, help="write the figures to this JSON file")
    parser.add_argument("--threads", type=int, default=1, help="threads of the model")
    parser.add_argument("--font", type=Path, default=None, help="NotoColorEmoji.ttf; searched if not given")


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the figures as a table and write them as JSON if asked to.

    Returns:
        The exit status, 0.
    """
    torch.set_num_threads(args.threads)
    sprites = load_sprites(find_font(args.font))
    model = Sam3Model.from_pretrained(args.checkpoint, dtype=torch.float32).eval()
    processor = Sam3Processor.from_pretrained(args.checkpoint)
    answers = [
        answer
        for scene, queries in held_out_scenes(sprites, args.scenes, args.seed)
        for answer in ask(model, processor, scene, queries)
    ]
    figures = {"scenes": args.scenes, "seed": args.seed} | summarise(answers)
    print_figures(figures)
    if args.output is not None:
        args.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


def held_out_scenes(sprites: SpriteLibrary, count: int, seed: int) -> Iterator[tuple[Scene, list[Query]]]:
    """Draw scenes that no training run has seen, and the phrases to ask of each; scene `i` depends on `i` only."""
    for index in range(count):
        rng = np.random.default_rng([SEED, seed, index])
        scene = make_scene(rng, sprites, SIZES_WH[index % len(SIZES_WH)])
        yield scene, make_queries(rng, scene.sprites, MAX_PRESENT, NUM_QUERIES)


@torch.inference_mode()
def ask(model: Sam3Model, processor: Sam3Processor, scene: Scene, queries: Sequence[Query]) -> list[Answer]:
    """Ask all phrases of one scene, by the stock path from picture to masks."""
    height, width = scene.image.shape[:2]
    image = Image.fromarray(scene.image)
    inputs = processor(images=[image] * len(queries), text=[query.phrase for query in queries], return_tensors="pt")
    inputs = {name: inputs[name] for name in ("pixel_values", "input_ids", "attention_mask")}
    outputs = model(**inputs)
    results = processor.post_process_instance_segmentation(
        outputs, threshold=CANDIDATE_THRESHOLD, mask_threshold=0.5, target_sizes=[(height, width)] * len(queries)
    )
    presence = outputs.presence_logits.sigmoid().flatten().tolist()
    truth = [encode(mask) for mask in scene.masks]
    answers = []
    for query, result, probability in zip(queries, results, presence, strict=True):
        order = result["scores"].argsort(descending=True).tolist()
        answers.append(
            Answer(
                query=query,
                truth=[truth[i] for i in query.objects],
                found=[encode(result["masks"][i].numpy()) for i in order],
                scores=[result["scores"][i].item() for i in order],
                presence=probability,
                size_wh=(width, height),
            )
        )
    return answers


def encode(mask: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Encode a mask (H, W) of any type, non-zero inside, as COCO RLE with byte counts."""
    rle: dict[str, Any] = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return rle


def match_ious(found: Sequence[dict[str, Any]], truth: Sequence[dict[str, Any]]) -> list[float]:
    """Match detections, in order, each to the free object it overlaps best; IoUs of the matches, at least 0.5."""
    if not found or not truth:
        return []
    overlap = coco_mask.iou(list(found), list(truth), [0] * len(truth))
    ious = []
    for row in range(len(found)):
        best = int(overlap[row].argmax())
        if overlap[row, best] >= MATCH_IOU:
            ious.append(float(overlap[row, best]))
            overlap[:, best] = 0
    return ious


def summarise(answers: Sequence[Answer]) -> dict[str, Any]:
    """Compute all figures: COCOeval's, those at the threshold, and the latter for each kind of phrase."""
    total, kinds = Tally(), defaultdict[str, Tally](Tally)
    for answer in answers:
        total.add(answer)
        kinds[answer.query.kind].add(answer)
    by_kind = {kind: kinds[kind].figures() for kind in sorted(kinds)}
    return coco_figures(answers) | total.figures() | {"by_kind": by_kind}


def coco_figures(answers: Sequence[Answer]) -> dict[str, float]:
    """Run COCOeval on masks: each question counts as a picture of its own, all in one category."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for number, answer in enumerate(answers, start=1):
        width, height = answer.size_wh
        images.append({"id": number, "width": width, "height": height})
        for rle in answer.truth:
            area, bbox = float(coco_mask.area(rle)), coco_mask.toBbox(rle).tolist()
            annotation = {"image_id": number, "category_id": 1, "segmentation": rle, "iscrowd": 0}
            annotations.append(annotation | {"id": len(annotations) + 1, "area": area, "bbox": bbox})
        for rle, score in zip(answer.found, answer.scores, strict=True):
            detections.append({"image_id": number, "category_id": 1, "segmentation": rle, "score": score})
    # pycocotools prints its progress and its table; the table below has what matters.
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(detections), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {"ap": float(evaluation.stats[0]), "ap50": float(evaluation.stats[1]), "ap75": float(evaluation.stats[2])}


def print_figures(figures: dict[str, Any]) -> None:
    """Print the overall figures and a table of the kinds of phrases."""
    columns = ("phrases", "objects", "precision", "recall", "mask_iou", "presence_accuracy")
    print(" ".join(f"{name} {figures[name]:.3f}" for name in ("ap", "ap50", "ap75")))
    print(f"{'kind':<14}" + "".join(f"{name:>19}" for name in columns))
    for kind, row in {"all": figures, **figures["by_kind"]}.items():
        cells = ["-" if row[name] is None else f"{row[name]:.3f}".removesuffix(".000") for name in columns]
        print(f"{kind:<14}" + "".join(f"{cell:>19}" for cell in cells))


def _rate(part: float, whole: int) -> float | None:
    return part / whole if whole else None
