"""Pairs of objects of different labels that may be one thing: "dog" and "brown dog"."""

from __future__ import annotations

from collections.abc import Sequence

from serve_app.masks.rle import iou_matrix
from serve_app.schemas.dicts import OverlapDict
from serve_app.verdict.evidence import SAME_MASK_IOU, Picture

MOST_OVERLAPS = 100


def find_overlaps(contextual: Sequence[Picture], generated: Picture | None) -> list[OverlapDict]:
    """List the pairs of one image whose masks overlap by IoU over 0.8, largest first.

    Args:
        contextual: in order.
        generated: None where there is no generated image.
    """
    named = [(f"contextual_images[{i}]", picture) for i, picture in enumerate(contextual)]
    if generated is not None:
        named.append(("generated_image", generated))
    found: list[OverlapDict] = []
    for name, picture in named:
        objects = picture.objects or ()
        overlaps = iou_matrix([each.mask for each in objects], [each.mask for each in objects])
        for a, one in enumerate(objects):
            for b in range(a + 1, len(objects)):
                if objects[b].label != one.label and overlaps[a, b] > SAME_MASK_IOU:
                    pair = [one.object_id, objects[b].object_id]
                    found.append({"image": name, "objects": pair, "iou": float(overlaps[a, b])})
    found.sort(key=lambda each: -each["iou"])
    return found[:MOST_OVERLAPS]
