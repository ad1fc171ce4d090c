"""Writes the rows of a verdict in words, for the command line's table and the HTML report."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from serve_app.schemas.dicts import EntityVerdictDict, ReferenceVerdictDict

ARRIVED: Mapping[bool | None, str] = MappingProxyType({True: "yes", False: "no", None: "could not tell"})
NOTHING = "-"
_ENTITY_WORDS = {
    "ok": "ok",
    "missing": "missing",
    "too_few": "too few",
    "too_many": "too many",
    "unwanted": "must not be there",
    "unknown": "could not tell",
}
_REFERENCE_WORDS = {
    "arrived": "arrived",
    "different": "another individual",
    "merged": "merged with another individual",
    "missing": "missing",
    "not_asked": "not asked for",
    "unknown": "could not tell",
}

ENTITY_COLUMNS = ("entity", "asked", "found", "status", "in the prompt")
REFERENCE_COLUMNS = ("reference", "generated", "similarity", "status")


def entity_words(row: EntityVerdictDict) -> tuple[str, str, str, str, str]:
    """Write a row about an entity, with a cell for each of ENTITY_COLUMNS."""
    found = NOTHING if row["found"] is None else str(row["found"])
    return row["entity"], _asked(row), found, _entity_status(row), _in_prompt(row)


def reference_words(row: ReferenceVerdictDict) -> tuple[str, str, str, str]:
    """Write a row about a reference, with a cell for each of REFERENCE_COLUMNS."""
    place = "image not given" if row["image"] is None else f"ref {row['image']}"
    similarity = NOTHING if row["similarity"] is None else f"{row['similarity']:.2f}"
    status = _REFERENCE_WORDS.get(row["status"], row["status"].replace("_", " "))
    return f"{place} {row['object_id'] or ''}".rstrip(), row["match"] or NOTHING, similarity, status


def _asked(row: EntityVerdictDict) -> str:
    if row["asked"] is None:
        return "at least 1"
    if row["asked"] == 0:
        return "none"
    return str(row["asked"]) if row["exact"] else f"at least {row['asked']}"


def _entity_status(row: EntityVerdictDict) -> str:
    if row["bare"] is not None:
        return f"{row['bare']['found']} for '{row['bare']['entity']}' alone"
    return _ENTITY_WORDS.get(row["status"], row["status"].replace("_", " "))


def _in_prompt(row: EntityVerdictDict) -> str:
    words = NOTHING if row["asked_as"] is None else f'"{row["asked_as"]}"'
    return words + "".join(f", ref {image}" for image in row["sources"])
