"""The verdict as a whole."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serve_app.entities.mentions import Asked
from serve_app.verdict.judge import IdentitySettings, judge
from tests.verdict.pictures import FAILED, mask, picture, seen

IDENTITY = IdentitySettings(
    {"model": "m", "pooling": "cls", "crop": "mask on grey, square, aspect kept", "threshold": 0.6}, 16
)


def test_the_example_of_the_readme() -> None:
    asked = [Asked("dogs", 2, True, "Two dogs", (0,)), Asked("blue sofa", 1, False, "a blue sofa")]
    contextual = [picture(seen("dogs", 0, "rex"), seen("dogs", 1, "fido"))]
    generated = picture(seen("dogs", 0, "rex again"), seen("blue sofa", 5, index=0))
    verdict = judge(asked, contextual, generated, IDENTITY)
    assert verdict["arrived"] is False
    assert [(row["entity"], row["found"], row["status"]) for row in verdict["entities"]] == [
        ("dogs", 1, "too_few"), ("blue sofa", 1, "ok"),
    ]  # fmt: skip
    assert [(row["individual"], row["match"], row["status"]) for row in verdict["references"]] == [
        (0, "dogs_0", "arrived"), (1, None, "merged"),
    ]  # fmt: skip
    assert verdict["references"][0]["margin"] == pytest.approx(0.9397 - 0.3420, abs=1e-3)
    assert verdict["scores"] == {"entities": 0.5, "identity": pytest.approx(0.9397, abs=1e-3), "collapsed": 0.5}
    assert verdict["reasons"] == [
        "dogs: 2 asked, 1 found", "contextual_images[0] dogs_1: merged with another individual",
    ]  # fmt: skip


def test_everything_arrived() -> None:
    verdict = judge([Asked("dog", 1)], [picture(seen("dog", 0))], picture(seen("dog", 3)), IDENTITY)
    assert (verdict["arrived"], verdict["reasons"]) == (True, [])
    assert verdict["scores"] == {"entities": 1.0, "identity": pytest.approx(1.0), "collapsed": 0.0}


def test_unknown_is_neither_true_nor_false_unless_something_is_wrong() -> None:
    assert judge([Asked("dog", 1)], [], FAILED, IDENTITY)["arrived"] is None
    assert judge([Asked("dog", 1)], [FAILED], picture(seen("dog", 0)), IDENTITY)["arrived"] is None
    wrong = judge([Asked("dog", 1), Asked("cat", 1)], [FAILED], picture(seen("dog", 0)), IDENTITY)
    assert wrong["arrived"] is False


def test_nothing_judged_is_null() -> None:
    verdict = judge([], [], picture(), None)
    assert verdict["arrived"] is None
    assert verdict["scores"] == {"entities": None, "identity": None, "collapsed": None}


def test_without_an_identity_model_there_are_no_references() -> None:
    verdict = judge([Asked("dog", 1)], [picture(seen("dog", 0))], picture(seen("dog", 3, "fido")), None)
    assert (verdict["arrived"], verdict["references"], verdict["identity"]) == (True, [], None)


def test_overlaps_of_different_labels_are_listed_largest_first() -> None:
    generated = picture(
        seen("dog", 0),
        replace(seen("brown dog", 0), mask=mask(0, 9)),
        seen("sofa", 5),
        seen("couch", 5),
        seen("dog", 5),
    )
    overlaps = judge([], [picture(seen("cat", 1), seen("kitten", 1))], generated, None)["overlaps"]
    assert [(each["image"], *each["objects"]) for each in overlaps] == [
        ("contextual_images[0]", "cat_1", "kitten_1"),
        ("generated_image", "sofa_5", "couch_5"),
        ("generated_image", "sofa_5", "dog_5"),
        ("generated_image", "couch_5", "dog_5"),
        ("generated_image", "dog_0", "brown dog_0"),
    ]
    assert overlaps[-1]["iou"] == 0.8889, "written with four digits"


def test_an_image_that_was_not_given_is_named_also_where_nothing_is_compared() -> None:
    verdict = judge([Asked("dog", 1, False, "the dog", (), (5,))], [picture()], picture(seen("dog", 3)), None)
    assert (verdict["references"], verdict["identity"]) == ([], None)
    assert verdict["reasons"] == ["dog: the prompt names image 5, which was not given"]


def test_objects_that_lack_the_attribute_are_told_in_the_reason() -> None:
    shown = replace(picture(seen("red cars", 0)), bare={"red cars": {"entity": "cars", "found": 1}})
    verdict = judge([Asked("red cars", 2, True)], [], shown, None)
    assert verdict["reasons"] == ["red cars: 2 asked, 1 found, but 1 for 'cars' alone"]
