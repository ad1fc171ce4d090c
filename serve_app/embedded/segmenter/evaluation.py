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

from serve_app.embedded.segmenter.glyphs import SpriteLibrary, find_font, load_sprites
from serve_app.embedded.segmenter.model import CHECKPOINT_DIR
from serve_app.embedded.segmenter.phrases import Query, make_queries
from serve_app.embedded.segmenter.scenes import Scene, make_scene

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
        boxes: the model's own boxes of the detections, xyxy in pixels, cut at the picture's edges.
        scores: of the detections, in [0, 1].
        presence: probability that the concept is in the picture.
        size_wh: width and height of the picture in pixels.
    """

    query: Query
    truth: list[dict[str, Any]]
    found: list[dict[str, Any]]
    boxes: list[list[float]]
    scores: list[float]
    presence: float
    size_wh: tuple[int, int]


@dataclass
class Tally:
    """Counts at the threshold, and the IoU of the masks and of the boxes of each match."""

    hits: int = 0
    false_alarms: int = 0
    misses: int = 0
    presence: list[bool] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)
    box_ious: list[float] = field(default_factory=list)

    def add(self, answer: Answer) -> None:
        """Match one answer's detections above the threshold to the objects, best score first, at mask IoU 0.5."""
        # Best first: those above the threshold come before the others.
        kept = answer.found[: sum(score > SCORE_THRESHOLD for score in answer.scores)]
        matches = match_masks(kept, answer.truth)
        self.hits += len(matches)
        self.ious += [match.iou for match in matches]
        self.box_ious += [
            box_iou(answer.boxes[match.found], bounds_xyxy(answer.truth[match.truth])) for match in matches
        ]
        self.false_alarms += len(kept) - len(matches)
        self.misses += len(answer.truth) - len(matches)
        self.presence.append((answer.presence > 0.5) == bool(answer.truth))

    def figures(self) -> dict[str, float | int | None]:
        """Summarise; a rate of nothing is None."""
        return {
            "phrases": len(self.presence),
            "objects": self.hits + self.misses,
            "precision": _rate(self.hits, self.hits + self.false_alarms),
            "recall": _rate(self.hits, self.hits + self.misses),
            "mask_iou": _rate(sum(self.ious), len(self.ious)),
            "box_iou": _rate(sum(self.box_ious), len(self.box_ious)),
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
    # The stock post-processing lets boxes hang over the picture's edges; the service cuts them.
    edges = torch.tensor([width, height, width, height], dtype=torch.float32)
    answers = []
    for query, result, probability in zip(queries, results, presence, strict=True):
        order = result["scores"].argsort(descending=True).tolist()
        answers.append(
            Answer(
                query=query,
                truth=[truth[i] for i in query.objects],
                found=[encode(result["masks"][i].numpy()) for i in order],
                boxes=result["boxes"][order].clamp(torch.zeros(4), edges).tolist(),
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


@dataclass(frozen=True)
class Match:
    """A detection and the object it was matched to, by their numbers, and the IoU of their masks."""

    found: int
    truth: int
    iou: float


def match_masks(found: Sequence[dict[str, Any]], truth: Sequence[dict[str, Any]]) -> list[Match]:
    """Match detections, in order, each to the free object it overlaps best, where the IoU is at least 0.5."""
    if not found or not truth:
        return []
    overlap = coco_mask.iou(list(found), list(truth), [0] * len(truth))
    matches = []
    for row in range(len(found)):
        best = int(overlap[row].argmax())
        if overlap[row, best] >= MATCH_IOU:
            matches.append(Match(row, best, float(overlap[row, best])))
            overlap[:, best] = 0
    return matches


def bounds_xyxy(rle: dict[str, Any]) -> list[float]:
    """Bound a mask that is not empty: xyxy in pixels, the far edges exclusive."""
    left, top, width, height = coco_mask.toBbox(rle).tolist()
    return [left, top, left + width, top + height]


def box_iou(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two xyxy boxes, at least one of which is not empty."""
    overlap_wh = [min(first[i + 2], second[i + 2]) - max(first[i], second[i]) for i in (0, 1)]
    shared = max(0.0, overlap_wh[0]) * max(0.0, overlap_wh[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared)


def summarise(answers: Sequence[Answer]) -> dict[str, Any]:
    """Compute all figures: COCOeval's, those at the threshold, and the latter for each kind of phrase."""
    total, kinds = Tally(), defaultdict[str, Tally](Tally)
    for answer in answers:
        total.add(answer)
        kinds[answer.query.kind].add(answer)
    by_kind = {kind: kinds[kind].figures() for kind in sorted(kinds)}
    return coco_figures(answers) | total.figures() | {"by_kind": by_kind}


def coco_figures(answers: Sequence[Answer]) -> dict[str, float]:
    """Run COCOeval on masks and on boxes: each question counts as a picture of its own, all in one category."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for number, answer in enumerate(answers, start=1):
        width, height = answer.size_wh
        images.append({"id": number, "width": width, "height": height})
        for rle in answer.truth:
            area, bbox = float(coco_mask.area(rle)), coco_mask.toBbox(rle).tolist()
            annotation = {"image_id": number, "category_id": 1, "segmentation": rle, "iscrowd": 0}
            annotations.append(annotation | {"id": len(annotations) + 1, "area": area, "bbox": bbox})
        for rle, (x1, y1, x2, y2), score in zip(answer.found, answer.boxes, answer.scores, strict=True):
            detection = {"image_id": number, "category_id": 1, "score": score}
            detections.append(detection | {"segmentation": rle})
            boxes.append(detection | {"bbox": [x1, y1, x2 - x1, y2 - y1]})
    # pycocotools prints its progress and its table; the table below has what matters.
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}
        truth.createIndex()
        return average_precision(truth, detections, "segm", "") | average_precision(truth, boxes, "bbox", "box_")


def average_precision(truth: COCO, detections: list[dict[str, Any]], kind: str, prefix: str) -> dict[str, float]:
    """Average precision over IoUs of 0.5 to 0.95, and at 0.5 and 0.75.

    Args:
        truth: the objects.
        detections: in COCO's format of results.
        kind: what is compared, "segm" or "bbox".
        prefix: of the figures' names.
    """
    evaluation = COCOeval(truth, truth.loadRes(detections), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {f"{prefix}{name}": float(evaluation.stats[i]) for i, name in enumerate(("ap", "ap50", "ap75"))}


def print_figures(figures: dict[str, Any]) -> None:
    """Print the overall figures and a table of the kinds of phrases."""
    columns = ("phrases", "objects", "precision", "recall", "mask_iou", "box_iou", "presence_accuracy")
    names = ("ap", "ap50", "ap75", "box_ap", "box_ap50", "box_ap75")
    print(" ".join(f"{name} {figures[name]:.3f}" for name in names))
    print(f"{'kind':<14}" + "".join(f"{name:>19}" for name in columns))
    for kind, row in {"all": figures, **figures["by_kind"]}.items():
        cells = ["-" if row[name] is None else f"{row[name]:.3f}".removesuffix(".000") for name in columns]
        print(f"{kind:<14}" + "".join(f"{cell:>19}" for cell in cells))


def _rate(part: float, whole: int) -> float | None:
    return part / whole if whole else None
