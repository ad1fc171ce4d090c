"""Quotes, image references and bare nouns, each by itself."""

from __future__ import annotations

import pytest

from serve_app.entities.filter import Dropped
from serve_app.entities.mentions import Asked, bare_noun, read_named, read_prompt, without_references
from serve_app.entities.mentions.image_references import image_references


@pytest.mark.parametrize(
    ("prompt", "entity", "quote"),
    [
        ("Two dogs from image 1 on a blue sofa", "dogs", "two dogs"),
        ("Two dogs from image 1 on a blue sofa", "blue sofa", "a blue sofa"),
        ("a couple of big birds", "birds", "a couple of big birds"),
        ("at least 3 cups of tea", "cups of tea", "at least 3 cups of tea"),
        ("only one of the dogs", "dogs", "one of the dogs"),
        ("A red car. The red car has a driver.", "red car", "a red car"),
        ("a beach, no people", "people", "no people"),
        ("a cat without a hat", "hat", "without a hat"),
        ("remove the dog and the cat", "dog", "remove the dog"),
        ("remove the dog and the cat", "cat", "the cat"),
        ("change the car to red", "car", "the car"),
        ("dogs in a park", "dogs", "dogs"),
    ],
)
def test_the_prompts_own_words_are_quoted(prompt: str, entity: str, quote: str) -> None:
    assert read_prompt(prompt, [entity], 1).asked[0].asked_as == quote


@pytest.mark.parametrize(
    ("entities", "kept", "dropped"),
    [
        (["dog from image 1", "blue sofa of image 2"], ["dog", "blue sofa"], []),
        (["first image", "image 2", "<image_1>", "reference photo"], [],
         ["first image", "image 2", "<image_1>", "reference photo"]),
        (["image 2's sofa", "hat in the second reference"], ["sofa", "hat"], []),
        (["dog from image 1", "dog from image 2"], ["dog"], []),
        (["picture on the wall", "photo of a dog"], ["picture on the wall", "photo of a dog"], []),
        (["dog (image 1)", "dog"], ["dog"], []),
    ],
)  # fmt: skip
def test_names_of_images_leave_the_phrases(entities: list[str], kept: list[str], dropped: list[str]) -> None:
    assert without_references(entities) == (kept, [Dropped(entity, "image reference") for entity in dropped])


@pytest.mark.parametrize(
    ("prompt", "numbers"),
    [
        ("the dog from image 1", [(1,)]),
        ("images 1, 2 and 4", [(1, 2, 4)]),
        ("pictures 2-4", [(2, 3, 4)]),
        ("image two", [(2,)]),
        ("Reference #3", [(3,)]),
        ("<|image_2|> and [image 1]", [(2,), (1,)]),
        ("the 2nd photo", [(2,)]),
        ("a photo of 2 dogs, 35mm, 8k", []),
        ("two pictures on the wall", []),
        ("a photo in 4k from 1950", []),
    ],
)
def test_images_are_named_by_number(prompt: str, numbers: list[tuple[int, ...]]) -> None:
    assert [found.numbers for found in image_references(prompt)] == numbers


@pytest.mark.parametrize(
    ("phrase", "bare"),
    [
        ("blue sofa", "sofa"),
        ("large blue velvet sofa", "sofa"),
        ("black and white cat", "cat"),
        ("old wooden desk", "desk"),
        ("light-blue dress", "dress"),
        ("striped hot dog", "hot dog"),
        ("sofa", None),
        ("hot dog", None),
        ("palm trees", None),
        ("orange juice", None),
        ("glass of wine", None),
        ("red", None),
        ("teddy bear", None),
    ],
)
def test_the_bare_noun_is_the_phrase_without_leading_adjectives(phrase: str, bare: str | None) -> None:
    assert bare_noun(phrase) == bare


def test_entities_of_the_callers_keep_their_names_and_none_is_added() -> None:
    prompt = "Change the car to red, no clouds; two dogs from image 2"
    read = read_named(prompt, ["car", "Dogs", "lorry"], 2)
    assert [(each.entity, each.asked, each.exact, each.sources) for each in read] == [
        ("car", 1, False, ()), ("Dogs", 2, True, (1,)), ("lorry", None, False, ()),
    ]  # fmt: skip
    assert [each.entity for each in read_prompt(prompt, ["car", "dogs"], 2).asked] == ["red car", "dogs", "clouds"]
    assert read_named("", ["car"], 0) == (Asked("car"),)


def test_a_prompt_of_exclusions_alone_is_read_in_time_that_grows_with_its_length() -> None:
    words = " ".join(f"no thing{number}" for number in range(300))
    assert [each.entity for each in read_prompt(words, [], 0).asked] == [f"thing{number}" for number in range(300)]
