"""How many were found, and what that means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serve_app.entities.mentions import Asked
from serve_app.verdict.entities import bare_nouns, judge_entities
from serve_app.verdict.evidence import Picture
from tests.verdict.pictures import EMPTY, FAILED, mask, picture, seen, with_bare


@pytest.mark.parametrize(
    ("asked", "exact", "found", "status"),
    [
        (2, True, 2, "ok"), (2, True, 1, "too_few"), (2, True, 3, "too_many"), (2, True, 0, "missing"),
        (2, False, 3, "ok"), (2, False, 1, "too_few"),
        (1, False, 5, "ok"), (1, True, 2, "too_many"), (1, False, 0, "missing"),
        (None, False, 1, "ok"), (None, False, 7, "ok"), (None, False, 0, "missing"),
        (0, True, 0, "ok"), (0, True, 1, "unwanted"),
    ],
)  # fmt: skip
def test_a_count_has_a_status(asked: int | None, exact: bool, found: int, status: str) -> None:
    generated = picture(*(seen("dog", place) for place in range(found)))
    (row,) = judge_entities([Asked("dog", asked, exact)], generated)
    assert (row["status"], row["found"]) == (status, found)
    assert row["objects"] == [f"dog_{place}" for place in range(found)]


@pytest.mark.parametrize("generated", [None, FAILED], ids=["none", "failed"])
def test_without_a_generated_image_nothing_is_known(generated: Picture | None) -> None:
    (row,) = judge_entities([Asked("dog", 0, True)], generated)
    assert (row["status"], row["found"], row["objects"]) == ("unknown", None, [])


def test_one_thing_found_twice_counts_once_with_its_best_score() -> None:
    best = seen("dog", 0, score=0.9)
    again = replace(seen("dog", 0, score=0.8, index=1), mask=mask(0, 9))  # IoU 8/9
    other = seen("dog", 2, score=0.7)
    (row,) = judge_entities([Asked("dog", 2, True)], picture(again, other, best))
    assert (row["status"], row["objects"]) == ("ok", ["dog_0", "dog_2"])


def test_masks_that_share_less_are_two_things() -> None:
    near = replace(seen("dog", 0, index=1), mask=mask(2, 8))  # IoU 6/10
    (row,) = judge_entities([Asked("dog", 2, True)], picture(seen("dog", 0), near))
    assert row["found"] == 2


def test_a_sofa_that_is_not_blue_is_told_from_no_sofa() -> None:
    asked = [Asked("blue sofa", 1)]
    assert bare_nouns(asked, EMPTY) == {"blue sofa": "sofa"}
    (row,) = judge_entities(asked, with_bare([], blue_sofa=[seen("sofa", 4)]))
    assert (row["status"], row["found"], row["bare"]) == ("other_attribute", 0, {"entity": "sofa", "found": 1})
    (row,) = judge_entities(asked, with_bare([], blue_sofa=[]))
    assert (row["status"], row["bare"]) == ("missing", None)


def test_a_bare_noun_that_is_listed_already_does_not_count() -> None:
    asked = [Asked("blue sofa", 1), Asked("red sofa", 1)]
    rows = judge_entities(asked, with_bare([seen("red sofa", 4)], blue_sofa=[seen("sofa", 4)]))
    assert [(row["status"], row["bare"]) for row in rows] == [("missing", None), ("ok", None)]


@pytest.mark.parametrize(
    ("asked", "found", "wanted"),
    [
        (Asked("blue sofa", 1), 1, {}),
        (Asked("blue sofas", 2, True), 1, {"blue sofas": "sofas"}),
        (Asked("blue sofa", 0, True), 0, {}),
        (Asked("sofa", 1), 0, {}),
        (Asked("hot dog", 1), 0, {}),
    ],
)
def test_nouns_are_looked_for_only_where_a_phrase_with_adjectives_lacks(
    asked: Asked, found: int, wanted: dict[str, str]
) -> None:
    generated = picture(*(seen(asked.entity, place) for place in range(found)))
    assert bare_nouns([asked], generated) == wanted
    assert bare_nouns([asked], FAILED) == {}
