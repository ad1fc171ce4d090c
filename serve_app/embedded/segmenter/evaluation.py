"""Measures a segmenter checkpoint on held-out synthetic scenes, with stock classes only.

It runs `from_pretrained`, `Sam3Processor`, the model's forward, `post_process_instance_segmentation` and pycocotools.
"""

import argparse
import contextlib
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypedDict, get_args

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from transformers import Sam3Model, Sam3Processor

from serve_app.embedded.segmenter.average_precision import Annotation, Detection, Precision, average_precision
from serve_app.embedded.segmenter.glyphs import SpriteLibrary, sprites_for_command
from serve_app.embedded.segmenter.matching import Rle, bounds_xyxy, box_iou, encode, match_masks
from serve_app.embedded.segmenter.model import CHECKPOINT_DIR
from serve_app.embedded.segmenter.phrases import Query, make_queries
from serve_app.embedded.segmenter.scenes import Scene, make_scene

SIZES_WH = ((640, 480), (640, 480), (480, 640), (800, 450), (450, 800), (512, 512), (960, 640), (320, 240))
"""Picture sizes of the scenes, used in turn."""

SEED = 20_000_000
"""First number of the held-out scenes' seeds. Training uses small numbers as seeds."""

MAX_PRESENT, NUM_QUERIES = 4, 6
"""Largest number of phrases that name something in the scene, and number of all phrases of a scene."""

SCORE_THRESHOLD = 0.5
Column = Literal["phrases", "objects", "precision", "recall", "mask_iou", "box_iou", "presence_accuracy"]
COLUMNS: tuple[Column, ...] = get_args(Column)
Overall = Literal["ap", "ap50", "ap75", "box_ap", "box_ap50", "box_ap75"]
OVERALL: tuple[Overall, ...] = get_args(Overall)

CANDIDATE_THRESHOLD = 0.01
"""Detections below this score are left out. COCOeval ranks by score, so they hardly matter."""


class Rates(TypedDict):
    """Figures at the score threshold, rates in [0, 1]. A rate over no items is None."""

    phrases: int
    objects: int
    precision: float | None
    recall: float | None
    mask_iou: float | None
    box_iou: float | None
    presence_accuracy: float | None


class Figures(Rates, Precision):
    """All figures: `ap…` compares masks, `box_ap…` compares boxes."""

    box_ap: float
    box_ap50: float
    box_ap75: float
    by_kind: dict[str, Rates]


@dataclass(frozen=True)
class Answer:
    """The checkpoint's answer to one phrase in one scene.

    Attributes:
        query: the phrase and its ground truth.
        truth: COCO RLE of the named objects.
        found: COCO RLE of the detections, best first.
        boxes: the model's own boxes of the detections, xyxy in pixels, cut at the picture's edges.
        scores: scores of the detections, in [0, 1].
        presence: probability that the concept is in the picture, in [0, 1].
        size_wh: width and height of the picture in pixels.
    """

    query: Query
    truth: list[Rle]
    found: list[Rle]
    boxes: list[list[float]]
    scores: list[float]
    presence: float
    size_wh: tuple[int, int]


@dataclass
class Tally:
    """Counts at the score threshold, and the mask IoU and box IoU of each match."""

    hits: int = 0
    false_alarms: int = 0
    misses: int = 0
    presence: list[bool] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)
    box_ious: list[float] = field(default_factory=list)

    def add(self, answer: Answer) -> None:
        """Match an answer's detections above the threshold to its objects, best score first, at mask IoU 0.5."""
        # The detections are sorted, so those above the threshold come first.
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

    def figures(self) -> Rates:
        """Return the figures. A rate over no items is None."""
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
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT_DIR, help="checkpoint folder to measure")
    parser.add_argument("--scenes", type=int, default=300, help="number of held-out scenes")
    parser.add_argument("--seed", type=int, default=0, help="seed of the held-out scenes")
    parser.add_argument("--output", type=Path, help="JSON file for the figures; default: print them only")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch on the CPU")
    parser.add_argument("--font", type=Path, help="path of NotoColorEmoji.ttf; default: search the usual folders")


def run(args: argparse.Namespace) -> int:
    """Measure the checkpoint, print the figures as a table, and write them as JSON if `--output` is given.

    Returns:
        The exit status, 0.
    """
    torch.set_num_threads(args.threads)
    sprites = sprites_for_command(args.font)
    model = Sam3Model.from_pretrained(args.checkpoint, dtype=torch.float32).eval()
    processor = Sam3Processor.from_pretrained(args.checkpoint)
    answers = [
        answer
        for scene, queries in held_out_scenes(sprites, args.scenes, args.seed)
        for answer in ask(model, processor, scene, queries)
    ]
    figures = summarise(answers)
    print_figures(figures)
    if args.output is not None:
        args.output.write_text(
            json.dumps({"scenes": args.scenes, "seed": args.seed, **figures}, indent=2) + "\n", encoding="utf-8"
        )
    return 0


def held_out_scenes(sprites: SpriteLibrary, count: int, seed: int) -> Iterator[tuple[Scene, list[Query]]]:
    """Draw scenes that no training run uses, each with its phrases. Scene `i` depends on `seed` and `i` only."""
    for index in range(count):
        rng = np.random.default_rng([SEED, seed, index])
        scene = make_scene(rng, sprites, SIZES_WH[index % len(SIZES_WH)])
        yield scene, make_queries(rng, scene.sprites, MAX_PRESENT, NUM_QUERIES)


@torch.inference_mode()
def ask(model: Sam3Model, processor: Sam3Processor, scene: Scene, queries: Sequence[Query]) -> list[Answer]:
    """Run the stock path from picture to masks for all phrases of one scene.

    Args:
        model: in evaluation mode, on the CPU.
        processor: the checkpoint's own.
        scene: the picture and its objects.
        queries: the phrases, at least one.

    Returns:
        One answer per phrase, in order.
    """
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
    # Boxes of the stock post-processing may extend over the picture's edges. The service cuts them, too.
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


def summarise(answers: Sequence[Answer]) -> Figures:
    """Compute all figures: those of COCOeval, those at the threshold, and the latter also by kind of phrase."""
    total, kinds = Tally(), defaultdict[str, Tally](Tally)
    for answer in answers:
        total.add(answer)
        kinds[answer.query.kind].add(answer)
    by_kind = {kind: kinds[kind].figures() for kind in sorted(kinds)}
    masks, boxes = coco_figures(answers)
    return {
        **masks,
        "box_ap": boxes["ap"],
        "box_ap50": boxes["ap50"],
        "box_ap75": boxes["ap75"],
        **total.figures(),
        "by_kind": by_kind,
    }


def coco_figures(answers: Sequence[Answer]) -> tuple[Precision, Precision]:
    """Run COCOeval on the masks and on the boxes. Each phrase of a scene counts as a picture; there is one category."""
    images = [
        {"id": number, "width": answer.size_wh[0], "height": answer.size_wh[1]}
        for number, answer in enumerate(answers, start=1)
    ]
    annotations: list[Annotation] = []
    detections: list[Detection] = []
    boxes: list[Detection] = []
    for number, answer in enumerate(answers, start=1):
        for rle in answer.truth:
            area, bbox = float(coco_mask.area(rle)), coco_mask.toBbox(rle).tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "segmentation": rle,
                    "area": area,
                    "bbox": bbox,
                    "iscrowd": 0,
                }
            )
        for rle, (x1, y1, x2, y2), score in zip(answer.found, answer.boxes, answer.scores, strict=True):
            detections.append({"image_id": number, "category_id": 1, "score": score, "segmentation": rle})
            box = [x1, y1, x2 - x1, y2 - y1]
            boxes.append({"image_id": number, "category_id": 1, "score": score, "bbox": box})
    # pycocotools prints its progress and a table, which `print_figures` replaces.
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}
        truth.createIndex()
        return average_precision(truth, detections, "segm"), average_precision(truth, boxes, "bbox")


def print_figures(figures: Figures) -> None:
    """Print the overall figures, and a table with a row for each kind of phrase."""
    print(" ".join(f"{name} {figures[name]:.3f}" for name in OVERALL))
    print(f"{'kind':<14}" + "".join(f"{name:>19}" for name in COLUMNS))
    rows: dict[str, Rates] = {"all": figures, **figures["by_kind"]}
    for kind, row in rows.items():
        cells = ["-" if (value := row[name]) is None else f"{value:.3f}".removesuffix(".000") for name in COLUMNS]
        print(f"{kind:<14}" + "".join(f"{cell:>19}" for cell in cells))


def _rate(part: float, whole: int) -> float | None:
    return part / whole if whole else None
