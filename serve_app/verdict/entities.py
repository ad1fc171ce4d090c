"""How many of each entity the generated image shows, and whether that is what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serve_app.entities.mentions import Asked, bare_noun
from serve_app.masks.rle import iou_matrix
from serve_app.schemas.dicts import EntityVerdictDict
from serve_app.schemas.verdict import EntityStatus
from serve_app.verdict.evidence import SAME_MASK_IOU, Picture, Seen, distinct


def judge_entities(
    asked: Sequence[Asked], generated: Picture | None, bare: Mapping[str, Sequence[Seen]]
) -> list[EntityVerdictDict]:
    """Judge each entity.

    Args:
        asked: what the prompt asks for.
        generated: None where there is no generated image.
        bare: for the entities of `bare_nouns`, what was found of the noun in the generated image.

    Returns:
        One row an entity, in order.
    """
    return [_judged(each, generated, bare.get(each.entity, ())) for each in asked]


def bare_nouns(asked: Sequence[Asked], generated: Picture | None) -> dict[str, str]:
    """Tell which nouns to look for besides: those of phrases with adjectives that were not found often enough.

    Args:
        asked: what the prompt asks for.
        generated: None where there is no generated image.

    Returns:
        The noun by the entity: {"blue sofa": "sofa"}.
    """
    nouns = {}
    for each in asked:
        noun = bare_noun(each.entity)
        if noun is not None and _judged(each, generated, ())["status"] in {"missing", "too_few"}:
            nouns[each.entity] = noun
    return nouns


def _judged(asked: Asked, generated: Picture | None, bare: Sequence[Seen]) -> EntityVerdictDict:
    row: EntityVerdictDict = {
        "entity": asked.entity, "asked": asked.asked, "exact": asked.exact, "asked_as": asked.asked_as,
        "sources": list(asked.sources), "found": None, "status": "unknown", "objects": [], "bare": None,
    }  # fmt: skip
    if generated is None or generated.objects is None:
        return row
    objects = generated.of_label(asked.entity)
    row["found"] = len(objects)
    row["objects"] = [each.object_id for each in objects]
    row["status"] = _status(asked, len(objects))
    others = _besides(bare, generated.objects)
    if row["status"] in {"missing", "too_few"} and others:
        row["status"] = "other_attribute"
        row["bare"] = {"entity": others[0].label, "found": len(others)}
    return row


def _status(asked: Asked, found: int) -> EntityStatus:
    if asked.asked == 0:
        return "unwanted" if found else "ok"
    if found == 0:
        return "missing"
    if asked.asked is not None and found < asked.asked:
        return "too_few"
    if asked.asked is not None and asked.exact and found > asked.asked:
        return "too_many"
    return "ok"


def _besides(bare: Sequence[Seen], listed: Sequence[Seen]) -> list[Seen]:
    """Leave out the objects that are in the image's list already, under whatever label."""
    candidates = distinct(bare)
    overlaps = iou_matrix([each.mask for each in candidates], [each.mask for each in listed])
    return [each for each, row in zip(candidates, overlaps, strict=True) if not (row > SAME_MASK_IOU).any()]
