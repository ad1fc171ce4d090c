"""What a verdict adds to pictures, read from verdicts of made-up cases."""

from __future__ import annotations

import pickle

import pytest

from serve_app.entities.mentions import Asked
from serve_app.images.marks import Marks, marks_of
from serve_app.images.palette import Rgb, entity_colours
from serve_app.schemas.dicts import VerdictDict
from serve_app.verdict.evidence import Picture
from serve_app.verdict.judge import IdentitySettings, judge
from tests.verdict.pictures import EMPTY, FAILED, picture, seen

IDENTITY = IdentitySettings({"model": "m", "pooling": "cls", "crop": "c", "threshold": 0.6}, 16)
DOG, DOGS, SOFA = Asked("dog", 1), Asked("dog", 2, True), Asked("blue sofa", 1)


def judged(asked: list[Asked], contextual: list[Picture], generated: Picture | None) -> VerdictDict:
    return judge(asked, contextual, generated, IDENTITY)


def marks(verdict: VerdictDict, contextual: int = 0) -> tuple[list[Marks], Marks]:
    """The marks of the contextual images and of the generated one."""
    return [marks_of(verdict, "contextual", index) for index in range(contextual)], marks_of(verdict, "generated", 0)


def colours_of(each: Marks) -> list[Rgb]:
    return [*each.colours.values()]


def first_notes(each: Marks) -> dict[str, str]:
    return {name: notes[0] for name, notes in each.notes.items()}


def test_an_individual_and_its_match_share_a_colour_that_no_label_has() -> None:
    verdict = judged([DOG, SOFA], [picture(seen("dog", 0))], picture(seen("dog", 3, "rex again"), seen("blue sofa", 5)))
    (reference,), generated = marks(verdict, 1)
    assert reference.colours.keys() == {"dog_0"}
    assert generated.colours.keys() == {"dog_3"}
    assert colours_of(reference) == colours_of(generated)
    assert not {*colours_of(generated)} & {*entity_colours(["dog", "blue sofa"]).values()}
    assert first_notes(reference) == {"dog_0": "arrived (0.94)"}
    assert first_notes(generated) == {"dog_3": "= ref 0 (0.94)"}
    assert (reference.lines, generated.lines) == ((), ())


def test_two_individuals_of_one_image_have_two_colours_and_are_named() -> None:
    contextual = [picture(seen("dog", 0, "rex"), seen("dog", 1, "fido"))]
    verdict = judged([DOGS], contextual, picture(seen("dog", 3, "fido"), seen("dog", 4, "rex")))
    (reference,), generated = marks(verdict, 1)
    assert reference.colours["dog_0"] == generated.colours["dog_4"]
    assert reference.colours["dog_1"] == generated.colours["dog_3"]
    assert len({*colours_of(generated)}) == 2
    assert first_notes(reference) == {"dog_0": "arrived as dog_4 (1.00)", "dog_1": "arrived as dog_3 (1.00)"}
    assert first_notes(generated) == {"dog_4": "= ref 0 dog_0 (1.00)", "dog_3": "= ref 0 dog_1 (1.00)"}


def test_two_views_of_one_individual_have_one_colour_and_the_best_view_is_named_first() -> None:
    contextual = [picture(seen("dog", 0, "rex again")), picture(seen("dog", 0, "rex")), EMPTY]
    references, generated = marks(judged([DOG], contextual, picture(seen("dog", 3, "rex"))), 3)
    assert colours_of(references[0]) == colours_of(references[1]) == colours_of(generated)
    assert first_notes(references[0]) == {"dog_0": "arrived (0.94)"}
    assert first_notes(references[1]) == {"dog_0": "arrived (1.00)"}
    assert references[2] == Marks()
    assert first_notes(generated) == {"dog_3": "= ref 1, ref 0 (1.00)"}


def test_of_many_views_two_are_named() -> None:
    contextual = [picture(seen("dog", 0)) for _ in range(5)]
    assert first_notes(marks(judged([DOG], contextual, picture(seen("dog", 3))))[1]) == {
        "dog_3": "= ref 0, ref 1 and 3 more (1.00)"
    }


def test_of_two_individuals_merged_into_one_the_second_keeps_its_labels_colour() -> None:
    contextual = [picture(seen("dog", 0, "rex"), seen("dog", 1, "fido"))]
    (reference,), generated = marks(judged([DOGS], contextual, picture(seen("dog", 3, "rex"))), 1)
    assert reference.colours.keys() == {"dog_0"}
    assert first_notes(reference) == {"dog_0": "arrived (1.00)", "dog_1": "merged"}
    assert generated.lines == ("dog: 2 asked, 1 found", "ref 0 dog_1: merged with another individual")
    assert reference.lines == ()


def test_another_individual_in_its_place_is_unlike_it() -> None:
    verdict = judged([DOG], [picture(seen("dog", 0, "rex"))], picture(seen("dog", 3, "fido")))
    (reference,), generated = marks(verdict, 1)
    assert colours_of(reference) == colours_of(generated)
    assert first_notes(reference) == {"dog_0": "different (0.00)"}
    assert first_notes(generated) == {"dog_3": "unlike ref 0 (0.00)"}
    assert generated.lines == ("ref 0 dog_0: another individual in the generated image",)


def test_what_is_missing_is_listed_and_noted() -> None:
    verdict = judged([DOG, SOFA], [picture(seen("dog", 0)), picture(seen("blue sofa", 5))], picture(seen("dog", 3)))
    references, generated = marks(verdict, 2)
    assert first_notes(references[1]) == {"blue sofa_5": "missing"}
    assert references[1].colours == {}
    assert generated.lines == ("blue sofa: 1 asked, 0 found", "ref 1 blue sofa_5: missing in the generated image")


def test_an_individual_that_was_not_asked_for_is_no_fault() -> None:
    contextual = [picture(seen("dog", 0, "rex"), seen("dog", 1, "fido"))]
    (reference,), generated = marks(judged([DOG], contextual, picture(seen("dog", 3, "rex"))), 1)
    assert first_notes(reference)["dog_1"] == "not asked"
    assert generated.lines == ()


def test_what_must_not_be_there_is_noted() -> None:
    generated = marks(judged([Asked("tree", 0, True)], [], picture(seen("tree", 2))))[1]
    assert first_notes(generated) == {"tree_2": "not wanted"}
    assert generated.lines == ("tree: must not be there, 1 found",)


def test_without_references_objects_have_no_marks() -> None:
    verdict = judge([DOGS], [picture(seen("dog", 0))], picture(seen("dog", 3)), None)
    (reference,), generated = marks(verdict, 1)
    assert reference == Marks()
    assert generated == Marks(lines=("dog: 2 asked, 1 found",))


def test_an_image_that_shows_nothing_of_a_tied_entity_says_so() -> None:
    tied = Asked("dog", 1, sources=(0, 1, 2))
    verdict = judged([tied], [picture(seen("dog", 0)), EMPTY, FAILED], picture(seen("dog", 3)))
    references, generated = marks(verdict, 3)
    assert references[1].lines == ("no 'dog' found, but the prompt says that this image shows it",)
    assert references[2].lines == ("segmentation failed, so 'dog' cannot be compared",)
    assert generated.lines == (
        "ref 1: no 'dog' found, but the prompt says that this image shows it",
        "ref 2: segmentation failed, so 'dog' cannot be compared",
    )


@pytest.mark.parametrize("generated", [FAILED, None], ids=["failed", "not given"])
def test_without_a_generated_image_nothing_is_matched(generated: Picture | None) -> None:
    (reference,), result = marks(judged([DOG], [picture(seen("dog", 0))], generated), 1)
    assert (reference, result.colours, result.notes) == (Marks(), {}, {})
    assert result.lines == ("dog: unknown, because no generated image was segmented",)


def test_objects_that_may_be_one_thing_are_listed_with_their_image() -> None:
    twice = picture(seen("dog", 0), seen("brown dog", 0))
    (reference,), generated = marks(judged([DOG, Asked("brown dog", 1)], [twice], picture(seen("dog", 3))), 1)
    assert reference.lines == ("dog_0 and brown dog_0 may be one thing",)
    assert "may be one thing" not in " ".join(generated.lines)


def test_a_label_with_an_underscore_is_one_label() -> None:
    verdict = judged([Asked("rag_doll", 1)], [picture(seen("rag_doll", 0))], picture(seen("rag_doll", 3)))
    assert first_notes(marks(verdict)[1]) == {"rag_doll_3": "= ref 0 (1.00)"}


def test_marks_travel_between_processes() -> None:
    verdict = judged([DOGS], [picture(seen("dog", 0))], picture(seen("dog", 3)))
    for each in (marks_of(verdict, "contextual", 0), marks_of(verdict, "generated", 0)):
        assert pickle.loads(pickle.dumps(each)) == each
