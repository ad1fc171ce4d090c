"""Computes the segmenter's training loss: matches queries to objects, then compares scores, boxes, presence and masks.

Source: DETR (arXiv 2005.12872) for the matching and the box losses; SAM 3 (arXiv 2511.16719) for the presence head. As
in SAM 3, phrases for absent things give no gradient to the query scores.
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
    """The detector's outputs for N phrases, with L decoder layers and Q queries; the first M phrases have masks.

    All tensors are float32, on the model's device.

    Attributes:
        logits: (L, N, Q) logits of the query scores.
        boxes: (L, N, Q, 4) cxcywh in [0, 1].
        presence_logits: (L, N).
        mask_logits: (M, Q, 64, 64), of the last layer.
        semantic_logits: (M, 64, 64), one mask for all objects of a phrase together.
        patch_boxes: (N, 256, 4) cxcywh, the box of its object that is predicted from each encoded patch.
    """

    logits: torch.Tensor
    boxes: torch.Tensor
    presence_logits: torch.Tensor
    mask_logits: torch.Tensor
    semantic_logits: torch.Tensor
    patch_boxes: torch.Tensor


@dataclass(frozen=True)
class LossWeights:
    """Factors of the loss terms.

    `matched` is the focal weight of queries with an object, in (0, 1); the other queries have 1 - `matched`. If it is
    above 0.5, many objects get a second box; if it is far below 0.5, objects are missed. `patch_boxes` multiplies `l1`
    and `giou` for the boxes that are predicted from patches.
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
    """R pairs of a query and an object, over all layers, as four index tensors (R,) int64.

    Attributes:
        layer: index of the decoder layer.
        phrase: index of the phrase.
        query: index of the query.
        target: index of the object among those of the phrase.
    """

    layer: torch.Tensor
    phrase: torch.Tensor
    query: torch.Tensor
    target: torch.Tensor


def box_giou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the generalised IoU of xyxy boxes (..., 4), in [-1, 1]. The leading axes are broadcast."""
    overlap = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])
    hull = torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(first[..., :2], second[..., :2])
    intersection = overlap.clamp(min=0).prod(-1)
    union = (first[..., 2:] - first[..., :2]).prod(-1) + (second[..., 2:] - second[..., :2]).prod(-1) - intersection
    hull_area = hull.prod(-1)
    return intersection / union.clamp(min=1e-7) - (hull_area - union) / hull_area.clamp(min=1e-7)


@torch.no_grad()
def match(output: SegmenterOutput, batch: SceneBatch) -> Matches:
    """Assign each object of each phrase to one query, separately for every decoder layer."""
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
        The loss, a scalar; and figures for the log: its terms, the mask IoU and the presence accuracy.
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
    # The presence loss is summed over the decoder layers, like the losses of scores and boxes.
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
    """Compare R predicted boxes with R target boxes.

    Args:
        got: (R, 4) cxcywh.
        wanted: (R, 4) xyxy.

    Returns:
        The L1 distances (R,) and 1 - GIoU (R,).
    """
    distance = (got - box_convert(wanted, "xyxy", "cxcywh")).abs().sum(-1)
    return distance, 1 - box_giou(box_convert(got, "cxcywh", "xyxy"), wanted)


def patch_box_loss(output: SegmenterOutput, batch: SceneBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Compare the boxes that are predicted from patches with the boxes of the objects that own the patches.

    Every object has the same weight, whatever its number of patches. It has only one matched query in each layer, but
    dozens of patches. The loss of the patches teaches the encoder where the object's edges are. Source: Co-DETR (arXiv
    2211.12860), which also uses dense heads in training only.

    Returns:
        The L1 distance and 1 - GIoU, two scalars: means over the objects.
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
    """Compare the masks of the last layer's matched queries, and the semantic maps, with their targets.

    Returns:
        The weighted loss, a scalar; and figures for the log.
    """
    has_mask = (matches.layer == output.logits.shape[0] - 1) & (matches.phrase < len(batch.masks))
    rows = matches.phrase[has_mask]
    got = enlarge(output.mask_logits[rows, matches.query[has_mask]])
    wanted = batch.masks[rows, matches.target[has_mask]]
    num_masks = max(1, len(rows))
    bce = F.binary_cross_entropy_with_logits(got, wanted, reduction="none").mean((1, 2)).sum() / num_masks
    dice = dice_loss(got, wanted).sum() / num_masks
    union = batch.masks.amax(1)
    filled = batch.counts[: len(batch.masks)] > 0
    # Objects cover a small part of the picture, so their pixels get a higher weight.
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
    """Resize logits (R, 64, 64) to the targets' grid (R, 128, 128), bilinearly, as the post-processing does."""
    return F.interpolate(logits[:, None], size=(TARGET_SIZE, TARGET_SIZE), mode="bilinear", align_corners=False)[:, 0]


def focal_loss(logits: torch.Tensor, target: torch.Tensor, positive_weight: float) -> torch.Tensor:
    """Return the focal loss of each element, with exponent 2. Source: arXiv 1708.02002.

    Args:
        logits: any shape.
        target: the same shape, 0 or 1.
        positive_weight: weight of elements with target 1, in (0, 1); the others have 1 - `positive_weight`.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    miss = torch.where(target > 0, 1 - logits.sigmoid(), logits.sigmoid())
    return cross_entropy * miss**2 * torch.where(target > 0, positive_weight, 1 - positive_weight)


def dice_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the dice loss of each map, (R,). 1 is added to numerator and denominator, so two empty maps have no loss.

    Args:
        logits: (R, H, W).
        target: (R, H, W) in [0, 1].
    """
    probability = logits.sigmoid()
    shared = (probability * target).sum((1, 2))
    return 1 - (2 * shared + 1) / (probability.sum((1, 2)) + target.sum((1, 2)) + 1)
