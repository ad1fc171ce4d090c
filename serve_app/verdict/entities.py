"""Compares the number of objects of each entity in the generated image with the number that was asked for.

found                             | asked   | status
----------------------------------+---------+-----------------------------------
no image, or segmentation failed  | any     | unknown
0                                 | 0       | ok
1 or more                         | 0       | unwanted
0                                 | other   | missing, or other_attribute
fewer                             | number  | too_few, or other_attribute
more                              | exactly | too_many
otherwise                         |         | ok
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
    """Return the nouns to segment as well: those of phrases with adjectives that are missing or too few.

    Args:
        asked: what the prompt asks for.
        generated: the generated image; None if there is none.

    Returns:
        The noun by the entity: {"blue sofa": "sofa"}. Empty if the image failed, or if there is none.
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
