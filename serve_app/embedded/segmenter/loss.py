"""The segmenter's training loss: one-to-one matching, then scores, boxes, presence and masks.

Source: DETR (arXiv 2005.12872) for the matching and box losses, SAM 3 (arXiv 2511.16719) for the presence head, whose
absent phrases give the query scores no gradient.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_convert

from serve_app.embedded.segmenter.data import TARGET_SIZE, SceneBatch


@dataclass(frozen=True)
class SegmenterOutput:
    """What the detector says about N phrases: L decoder layers, Q queries; masks for the first M phrases.

    Attributes:
        logits: query scores (L, N, Q).
        boxes: cxcywh in [0, 1], (L, N, Q, 4).
        presence_logits: (L, N).
        mask_logits: of the last layer (M, Q, 64, 64).
        semantic_logits: all objects of the phrase together (M, 64, 64).
        patch_boxes: what each encoded patch says about the box of the object it belongs to, cxcywh (N, 256, 4).
    """

    logits: torch.Tensor
    boxes: torch.Tensor
    presence_logits: torch.Tensor
    mask_logits: torch.Tensor
    semantic_logits: torch.Tensor
    patch_boxes: torch.Tensor


@dataclass(frozen=True)
class LossWeights:
    """Factors of the terms; `matched` is the focal weight of queries that have an object, against the others'.

    A `matched` above one half leaves a second box on many objects, far below it loses objects. `patch_boxes` multiplies
    `l1` and `giou` for the boxes that the patches predict.
    """

    matched: float = 0.42
    score: float = 10.0
    l1: float = 8.0
    giou: float = 3.0
    patch_boxes: float = 0.5
    presence: float = 5.0
    mask_bce: float = 20.0
    mask_dice: float = 5.0
    semantic_bce: float = 6.0
    semantic_dice: float = 3.0


@dataclass(frozen=True)
class Matches:
    """Pairs of query and object, one row each, over all layers: four index tensors (R,) int64."""

    layer: torch.Tensor
    phrase: torch.Tensor
    query: torch.Tensor
    target: torch.Tensor


def box_giou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Generalised IoU of xyxy boxes (..., 4), broadcast against each other; in [-1, 1]."""
    overlap = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])
    hull = torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(first[..., :2], second[..., :2])
    intersection = overlap.clamp(min=0).prod(-1)
    union = (first[..., 2:] - first[..., :2]).prod(-1) + (second[..., 2:] - second[..., :2]).prod(-1) - intersection
    hull_area = hull.prod(-1)
    return intersection / union.clamp(min=1e-7) - (hull_area - union) / hull_area.clamp(min=1e-7)


@torch.no_grad()
def match(output: SegmenterOutput, batch: SceneBatch) -> Matches:
    """Assign each object of each phrase to one query, for every decoder layer on its own."""
    centres = box_convert(batch.boxes, "xyxy", "cxcywh")
    predicted = box_convert(output.boxes, "cxcywh", "xyxy")
    distance = (output.boxes[..., :, None, :] - centres[:, None]).abs().sum(-1)
    overlap = box_giou(predicted[..., :, None, :], batch.boxes[:, None])
    cost = (5 * distance - 2 * overlap - 2 * output.logits.sigmoid()[..., None]).cpu().numpy()
    counts = batch.counts.tolist()
    rows = [np.zeros((4, 0), dtype=np.int64)]
    for layer in range(cost.shape[0]):
        for phrase in np.flatnonzero(counts):
            queries, targets = linear_sum_assignment(cost[layer, phrase, :, : counts[phrase]])
            rows.append(np.stack([np.full_like(queries, layer), np.full_like(queries, phrase), queries, targets]))
    return Matches(*torch.from_numpy(np.concatenate(rows, axis=1)).to(output.boxes.device).unbind(0))


def segmenter_loss(
    output: SegmenterOutput, batch: SceneBatch, weights: LossWeights
) -> tuple[torch.Tensor, dict[str, float]]:
    """Compute the loss of a batch.

    Returns:
        The scalar to minimise, and its parts and two rates (mask IoU, presence accuracy) for the log.
    """
    matches = match(output, batch)
    present = (batch.counts > 0).float()
    num_objects = max(1.0, float(batch.counts.sum()))
    pairs = (matches.layer, matches.phrase, matches.query)
    target = torch.zeros_like(output.logits)
    target[pairs] = 1
    score = (focal_loss(output.logits, target, weights.matched) * present[:, None]).sum() / num_objects
    wanted = batch.boxes[matches.phrase, matches.target]
    got = output.boxes[pairs]
    distances, misfits = box_losses(got, wanted)
    l1, giou = distances.sum() / num_objects, misfits.sum() / num_objects
    # The mean over phrases, summed over layers, as the other terms are.
    presence = F.binary_cross_entropy_with_logits(
        output.presence_logits, present.expand_as(output.presence_logits), reduction="none"
    ).mean(1).sum()  # fmt: skip
    mask_total, mask_log = mask_loss(output, batch, matches, weights)
    patch_l1, patch_giou = patch_box_loss(output, batch)
    boxes = weights.l1 * (l1 + weights.patch_boxes * patch_l1) + weights.giou * (
        giou + weights.patch_boxes * patch_giou
    )
    total = weights.score * score + boxes + weights.presence * presence + mask_total
    right = ((output.presence_logits[-1] > 0) == (present > 0)).float().mean()
    last = matches.layer == output.logits.shape[0] - 1
    log = {"score": score, "l1": l1, "giou": giou, "last_giou": misfits[last].sum() / num_objects}
    log |= {"patch_giou": patch_giou, "presence": presence, "presence_accuracy": right}
    return total, {name: value.item() for name, value in log.items()} | mask_log


def box_losses(got: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compare boxes one by one.

    Args:
        got: cxcywh (R, 4).
        wanted: xyxy (R, 4).

    Returns:
        The L1 distance (R,) and 1 - GIoU (R,).
    """
    distance = (got - box_convert(wanted, "xyxy", "cxcywh")).abs().sum(-1)
    return distance, 1 - box_giou(box_convert(got, "cxcywh", "xyxy"), wanted)


def patch_box_loss(output: SegmenterOutput, batch: SceneBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Compare the boxes that patches predict; each object counts once, however many patches it has.

    An object has one matched query in each layer but dozens of patches: they teach the encoder where its edges are.
    Source: Co-DETR (arXiv 2211.12860), whose dense heads serve in training only, too.

    Returns:
        L1 distance and 1 - GIoU, each the mean over the objects.
    """
    rows, patches = (batch.owners >= 0).nonzero(as_tuple=True)
    owners = batch.owners[rows, patches]
    distance, misfit = box_losses(output.patch_boxes[rows, patches], batch.boxes[rows, owners])
    objects = rows * batch.boxes.shape[1] + owners
    share = 1 / torch.bincount(objects)[objects]
    num_objects = max(1.0, float(batch.counts.sum()))
    return (share * distance).sum() / num_objects, (share * misfit).sum() / num_objects


def mask_loss(
    output: SegmenterOutput, batch: SceneBatch, matches: Matches, weights: LossWeights
) -> tuple[torch.Tensor, dict[str, float]]:
    """Compare the masks of the last layer's matched queries, and the semantic map as a dense side task."""
    has_mask = (matches.layer == output.logits.shape[0] - 1) & (matches.phrase < len(batch.masks))
    rows = matches.phrase[has_mask]
    got = enlarge(output.mask_logits[rows, matches.query[has_mask]])
    wanted = batch.masks[rows, matches.target[has_mask]]
    num_masks = max(1, len(rows))
    bce = F.binary_cross_entropy_with_logits(got, wanted, reduction="none").mean((1, 2)).sum() / num_masks
    dice = dice_loss(got, wanted).sum() / num_masks
    union = batch.masks.amax(1)
    filled = batch.counts[: len(batch.masks)] > 0
    # Objects cover a small part of the picture, hence the weight.
    semantic = enlarge(output.semantic_logits)
    semantic_bce = F.binary_cross_entropy_with_logits(
        semantic, union, pos_weight=torch.tensor(3.0, device=union.device)
    )
    semantic_dice = (dice_loss(semantic, union) * filled).sum() / filled.sum().clamp(min=1)
    total = (
        weights.mask_bce * bce
        + weights.mask_dice * dice
        + weights.semantic_bce * semantic_bce
        + weights.semantic_dice * semantic_dice
    )
    overlap = ((got > 0) & (wanted > 0.5)).sum((1, 2)) / ((got > 0) | (wanted > 0.5)).sum((1, 2)).clamp(min=1)
    log = {"bce": bce, "dice": dice, "semantic": semantic_dice, "mask_iou": overlap.sum() / num_masks}
    return total, {name: value.item() for name, value in log.items()}


def enlarge(logits: torch.Tensor) -> torch.Tensor:
    """Interpolate logits (R, 64, 64) to the targets' grid as post-processing does to the picture: (R, 128, 128)."""
    return F.interpolate(logits[:, None], size=(TARGET_SIZE, TARGET_SIZE), mode="bilinear", align_corners=False)[:, 0]


def focal_loss(logits: torch.Tensor, target: torch.Tensor, positive_weight: float) -> torch.Tensor:
    """Focal loss with exponent 2, element by element (arXiv 1708.02002)."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    miss = torch.where(target > 0, 1 - logits.sigmoid(), logits.sigmoid())
    return cross_entropy * miss**2 * torch.where(target > 0, positive_weight, 1 - positive_weight)


def dice_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Dice loss of each map of (R, H, W), smoothed by one cell: (R,)."""
    probability = logits.sigmoid()
    shared = (probability * target).sum((1, 2))
    return 1 - (2 * shared + 1) / (probability.sum((1, 2)) + target.sum((1, 2)) + 1)
