"""Builds the verdict: entities, references, overlaps, scores, and reasons in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from serve_app.entities.mentions import Asked
from serve_app.schemas.dicts import (
    EntityVerdictDict,
    IdentityDict,
    OverlapDict,
    ReferenceVerdictDict,
    VerdictDict,
    VerdictScoresDict,
)
from serve_app.schemas.verdict import ReferenceStatus
from serve_app.verdict.entities import judge_entities
from serve_app.verdict.evidence import Picture
from serve_app.verdict.numbers import shown
from serve_app.verdict.references import References, images_not_given, judge_references
from serve_app.verdict.same_masks import MAX_OVERLAPS

RIGHT = frozenset({"ok", "arrived", "not_asked"})


@dataclass(frozen=True)
class IdentitySettings:
    """How individuals are compared.

    Attributes:
        described: the verdict's `identity`, with the threshold.
        max_objects: of one label in one image, at most this many objects are compared.
    """

    described: IdentityDict
    max_objects: int


def judge(
    asked: Sequence[Asked],
    contextual: Sequence[Picture],
    generated: Picture | None,
    identity: IdentitySettings | None,
) -> VerdictDict:
    """Judge whether the generated image has what the prompt asks for.

    Args:
        asked: what the prompt asks for, one for each entity.
        contextual: the contextual images in order; their objects have embeddings unless `identity` is None.
        generated: the generated image; None if there is none.
        identity: how individuals are compared; None if they are not.

    Returns:
        The `verdict` of the result document.
    """
    entities = judge_entities(asked, generated)
    if identity is None:
        references = References(remarks=images_not_given(asked))
    else:
        threshold = identity.described["threshold"]
        references = judge_references(asked, contextual, generated, threshold, identity.max_objects)
    statuses = [*(each["status"] for each in entities), *(status for status, _ in references.individuals)]
    return {
        "arrived": _arrived(statuses),
        "entities": entities,
        "references": references.rows,
        "overlaps": _overlaps(contextual, generated),
        "scores": _scores(entities, references.individuals),
        "reasons": [*_entity_reasons(entities), *_reference_reasons(references.rows), *references.remarks],
        "identity": None if identity is None else identity.described,
    }


def _arrived(statuses: Sequence[str]) -> bool | None:
    """Return False if anything is wrong, None if anything is unknown or nothing was judged, else True."""
    if any(status not in RIGHT | {"unknown"} for status in statuses):
        return False
    return None if not statuses or "unknown" in statuses else True


def _overlaps(contextual: Sequence[Picture], generated: Picture | None) -> list[OverlapDict]:
    """List the pairs of objects of all images that may be one thing, the largest IoU first."""
    named = [(f"contextual_images[{i}]", picture) for i, picture in enumerate(contextual)]
    if generated is not None:
        named.append(("generated_image", generated))
    overlaps = [(name, each) for name, picture in named for each in picture.overlaps]
    overlaps.sort(key=lambda item: -item[1].iou)
    return [
        {"image": name, "objects": [*each.object_ids], "iou": shown(each.iou)} for name, each in overlaps[:MAX_OVERLAPS]
    ]


def _scores(
    entities: Sequence[EntityVerdictDict], individuals: Sequence[tuple[ReferenceStatus, float | None]]
) -> VerdictScoresDict:
    known = [each["status"] == "ok" for each in entities if each["status"] != "unknown"]
    matched = [similarity for _, similarity in individuals if similarity is not None]
    judged = [status != "arrived" for status, _ in individuals if status not in {"unknown", "not_asked"}]
    return {"entities": _mean(known), "identity": _mean(matched), "collapsed": _mean(judged)}


def _mean(values: Sequence[float]) -> float | None:
    return shown(sum(values) / len(values)) if values else None


def _entity_reasons(entities: Sequence[EntityVerdictDict]) -> Iterator[str]:
    for row in entities:
        status, name, found = row["status"], row["entity"], row["found"]
        number = row["asked"] if row["asked"] is not None else "at least 1"
        if status == "unknown":
            yield f"{name}: unknown, because no generated image was segmented"
        elif status == "unwanted":
            yield f"{name}: must not be there, {found} found"
        elif row["bare"] is not None:
            other = row["bare"]
            yield f"{name}: {number} asked, {found} found, but {other['found']} for '{other['entity']}' alone"
        elif status != "ok":
            yield f"{name}: {number} asked, {found} found"


def _reference_reasons(rows: Sequence[ReferenceVerdictDict]) -> Iterator[str]:
    words = {
        "merged": "merged with another individual",
        "missing": "missing in the generated image",
        "different": "another individual in the generated image",
    }
    for row in rows:
        if row["status"] in words:
            yield f"contextual_images[{row['image']}] {row['object_id']}: {words[row['status']]}"
