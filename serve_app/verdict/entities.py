"""Compares the number of objects of each entity in the generated image with the number that was asked for.

    objects found                     | number asked for      | status
    ----------------------------------+-----------------------+-----------------------------
    no image, or segmentation failed  | any                   | unknown
    0                                 | 0                     | ok
    1 or more                         | 0                     | unwanted
    0                                 | no number, or over 0  | missing, or other_attribute
    fewer than asked for              | over 0                | too_few, or other_attribute
    more than asked for               | over 0, exactly       | too_many
    any other number                  | no number, or over 0  | ok

The status is `other_attribute` if there are objects without the entity's adjectives: a sofa, but not a blue one.
"""

from __future__ import annotations

from collections.abc import Sequence

from serve_app.entities.mentions import Asked, bare_noun
from serve_app.schemas.dicts import EntityVerdictDict
from serve_app.schemas.verdict import EntityStatus
from serve_app.verdict.evidence import Picture


def judge_entities(asked: Sequence[Asked], generated: Picture | None) -> list[EntityVerdictDict]:
    """Judge each entity.

    Args:
        asked: what the prompt asks for.
        generated: the generated image, with the results for the nouns of `bare_nouns`; None if there is none.

    Returns:
        One row for each entity, in order.
    """
    return [_judged(each, generated) for each in asked]


def bare_nouns(asked: Sequence[Asked], generated: Picture | None) -> dict[str, str]:
    """Return the bare nouns ("sofa" for "blue sofa") of entities that are missing or too few.

    The segmenter searches for these as well.

    Args:
        asked: what the prompt asks for.
        generated: the generated image; None if there is none.

    Returns:
        The noun by entity: {"blue sofa": "sofa"}. Empty if the image failed, or if there is none.
    """
    nouns = {}
    for each in asked:
        noun = bare_noun(each.entity)
        if noun is not None and _judged(each, generated)["status"] in {"missing", "too_few"}:
            nouns[each.entity] = noun
    return nouns


def _judged(asked: Asked, generated: Picture | None) -> EntityVerdictDict:
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
    bare = generated.bare.get(asked.entity)
    if row["status"] in {"missing", "too_few"} and bare is not None and bare["found"]:
        row["status"] = "other_attribute"
        row["bare"] = bare
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
