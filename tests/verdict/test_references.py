"""Which individuals arrived: every rule of the README's section, as cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from serve_app.entities.mentions import Asked
from serve_app.verdict.evidence import Picture, Seen
from serve_app.verdict.references import References, compared_labels, judge_references
from tests.verdict.pictures import EMPTY, FAILED, picture, seen

THRESHOLD = 0.6
DOG = Asked("dog", 1)
DOGS = Asked("dog", 2, True)
TIED = Asked("dog", 1, sources=(0,))


def judged(asked: list[Asked], contextual: list[Picture], generated: Picture | None, most: int = 16) -> References:
    return judge_references(asked, contextual, generated, THRESHOLD, most)


def rows(found: References) -> list[tuple[int | None, str | None, int | None, str | None, str]]:
    return [(r["image"], r["object_id"], r["individual"], r["match"], r["status"]) for r in found.rows]


def test_the_same_one_arrived() -> None:
    found = judged([DOG], [picture(seen("dog", 0))], picture(seen("dog", 3, "rex again")))
    assert rows(found) == [(0, "dog_0", 0, "dog_3", "arrived")]
    assert found.rows[0]["similarity"] == pytest.approx(0.9397, abs=1e-3)
    assert found.rows[0]["margin"] is None


def test_another_one_is_different() -> None:
    found = judged([DOG], [picture(seen("dog", 0))], picture(seen("dog", 3, "fido")))
    assert rows(found) == [(0, "dog_0", 0, "dog_3", "different")]


def test_none_of_the_label_is_missing() -> None:
    assert rows(judged([DOG], [picture(seen("dog", 0))], picture(seen("cat", 1)))) == [(0, "dog_0", 0, None, "missing")]


def blank(label: str, place: int) -> Seen:
    """An object whose mask is empty: its embedding says nothing."""
    return replace(seen(label, place), embedding=np.zeros(2, np.float32))


def test_an_object_with_an_empty_mask_cannot_be_compared() -> None:
    found = judged([DOG], [picture(blank("dog", 0)), picture(seen("dog", 1))], picture(seen("dog", 3)))
    assert rows(found) == [(0, "dog_0", None, None, "unknown"), (1, "dog_1", 0, "dog_3", "arrived")]
    assert found.remarks == ["contextual_images[0] dog_0: its mask is empty, so it cannot be compared"]


def test_nothing_is_known_where_the_generated_objects_have_empty_masks() -> None:
    found = judged([DOG], [picture(seen("dog", 0))], picture(blank("dog", 3)))
    assert rows(found) == [(0, None, None, None, "unknown")]
    assert found.remarks == ["generated_image dog_3: its mask is empty, so it cannot be compared"]


def test_an_empty_mask_beside_another_object_takes_no_match() -> None:
    found = judged([DOG], [picture(seen("dog", 0))], picture(blank("dog", 3), seen("dog", 4, "rex again")))
    assert rows(found) == [(0, "dog_0", 0, "dog_4", "arrived")]


def test_two_views_of_one_individual_share_a_match() -> None:
    contextual = [picture(seen("dog", 0, "rex")), picture(seen("dog", 1, "rex again"))]
    found = judged([DOG], contextual, picture(seen("dog", 3, "rex turned")))
    assert rows(found) == [(0, "dog_0", 0, "dog_3", "arrived"), (1, "dog_1", 0, "dog_3", "arrived")]
    assert [row["similarity"] for row in found.rows] == pytest.approx([0.7071, 0.9063], abs=1e-3)
    assert len(found.individuals) == 1


def test_two_alike_in_one_image_are_two_individuals() -> None:
    found = judged([DOGS], [picture(seen("dog", 0), seen("dog", 1, "rex again"))], picture(seen("dog", 3)))
    assert rows(found) == [(0, "dog_0", 0, "dog_3", "arrived"), (0, "dog_1", 1, None, "merged")]


def test_each_individual_gets_an_object_of_its_own() -> None:
    contextual = [picture(seen("dog", 0, "rex"), seen("dog", 1, "fido"))]
    found = judged([DOGS], contextual, picture(seen("dog", 5, "fido"), seen("dog", 6, "rex again")))
    assert rows(found) == [(0, "dog_0", 0, "dog_6", "arrived"), (0, "dog_1", 1, "dog_5", "arrived")]
    assert found.rows[1]["margin"] == pytest.approx(1.0, abs=1e-3)


def test_an_individual_beyond_the_number_asked_was_not_asked_for() -> None:
    contextual = [picture(seen("dog", 0, "rex"), seen("dog", 1, "fido"))]
    found = judged([DOG], contextual, picture(seen("dog", 3, "rex")))
    assert rows(found) == [(0, "dog_0", 0, "dog_3", "arrived"), (0, "dog_1", 1, None, "not_asked")]
    found = judged([Asked("dog", None)], contextual, picture(seen("dog", 3, "rex")))
    assert rows(found)[1] == (0, "dog_1", 1, None, "merged")


def test_views_are_joined_from_the_most_similar_pair_down() -> None:
    contextual = [
        picture(seen("dog", 0, "rex"), seen("dog", 1, "rex turned")),
        picture(seen("dog", 2, "rex again")),
    ]
    found = judged([DOGS], contextual, picture(seen("dog", 5, "rex"), seen("dog", 6, "rex turned")))
    assert [(row["image"], row["individual"]) for row in found.rows] == [(0, 0), (0, 1), (1, 0)]


def test_a_failed_image_is_unknown_with_a_reason() -> None:
    found = judged([DOG], [FAILED, picture(seen("dog", 0))], picture(seen("dog", 3)))
    assert rows(found) == [(0, None, None, None, "unknown"), (1, "dog_0", 0, "dog_3", "arrived")]
    assert found.remarks == ["contextual_images[0]: segmentation failed, so 'dog' cannot be compared"]


@pytest.mark.parametrize("generated", [None, FAILED], ids=["none", "failed"])
def test_without_a_generated_image_a_reference_is_unknown(generated: Picture | None) -> None:
    assert rows(judged([DOG], [picture(seen("dog", 0))], generated)) == [(0, None, None, None, "unknown")]


def test_a_tied_image_that_shows_nothing_is_unknown_an_untied_one_is_no_row() -> None:
    found = judged([TIED], [EMPTY], picture(seen("dog", 3)))
    assert rows(found) == [(0, None, None, None, "unknown")]
    assert "no 'dog' found" in found.remarks[0]
    assert rows(judged([DOG], [EMPTY], picture(seen("dog", 3)))) == []


def test_only_tied_entities_are_compared_and_only_with_their_images() -> None:
    contextual = [picture(seen("dog", 0), seen("sofa", 1)), picture(seen("dog", 2))]
    generated = picture(seen("dog", 3), seen("sofa", 4))
    found = judged([TIED, Asked("sofa", 1)], contextual, generated)
    assert rows(found) == [(0, "dog_0", 0, "dog_3", "arrived")]
    found = judged([DOG, Asked("sofa", 1)], contextual, generated)
    assert [row["object_id"] for row in found.rows] == ["dog_0", "dog_2", "sofa_1"]


def test_an_image_that_was_not_given_is_unknown() -> None:
    found = judged([Asked("dog", 1, missing_images=(3,))], [EMPTY], picture(seen("dog", 3)))
    assert rows(found) == [(None, None, None, None, "unknown")]
    assert found.remarks == ["dog: the prompt names image 3, which was not given"]


def test_what_must_not_be_there_has_no_references() -> None:
    assert rows(judged([Asked("dog", 0, True)], [picture(seen("dog", 0))], picture(seen("dog", 3)))) == []


def test_without_contextual_images_there_are_no_references() -> None:
    assert rows(judged([DOG], [], picture(seen("dog", 3)))) == []


def test_the_best_objects_take_part_and_the_rest_is_said() -> None:
    contextual = [picture(*(seen("dog", place, score=0.9 - place / 10) for place in range(4)))]
    found = judged([DOG], contextual, picture(seen("dog", 5)), most=2)
    assert [row["object_id"] for row in found.rows] == ["dog_0", "dog_1"]
    assert found.remarks == [
        "dog: contextual_images[0] has 4 objects; only the 2 with the best scores were compared "
        "(limits.max_identity_objects)"
    ]


@pytest.mark.parametrize(
    ("asked", "labels"),
    [
        ([DOG, Asked("sofa", 1)], [["dog", "sofa"], ["dog", "sofa"], ["dog", "sofa"]]),
        ([TIED, Asked("sofa", 1)], [["dog"], ["dog"], []]),
        ([DOG, Asked("sofa", 0, True)], [["dog"], ["dog"], ["dog"]]),
        ([DOG, Asked("hat", 1, missing_images=(3,))], [[], [], []]),
        ([DOG, Asked("hat", 1, sources=(1,), missing_images=(3,))], [["hat"], [], ["hat"]]),
    ],
    ids=["untied", "tied", "excluded", "an image that was not given", "one given, one not"],
)
def test_embeddings_are_needed_of_the_labels_that_are_compared(asked: list[Asked], labels: list[list[str]]) -> None:
    assert [compared_labels(asked, 2, image) for image in (None, 0, 1)] == labels


def test_without_contextual_images_no_embedding_is_needed() -> None:
    assert compared_labels([DOG, Asked("sofa", 1)], 0, None) == []


def test_many_alike_views_are_joined_in_little_time() -> None:
    contextual = [picture(*(seen("dog", place, index=place) for place in range(10))) for _ in range(20)]
    found = judged([Asked("dog", 10)], contextual, picture(*(seen("dog", place) for place in range(10))))
    assert len(found.rows) == 200
    assert len(found.individuals) == 10
