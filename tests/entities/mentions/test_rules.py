"""Each rule of what a prompt asks for, by itself: one row or more a sentence. The short form is that of `cases`."""

from __future__ import annotations

import pytest

from serve_app.entities.mentions import Asked, read_prompt, without_references
from tests.entities.mentions.test_reading import expected_of

RULES = {
    "exact numbers": [
        ("two dogs", 0, 'dogs=2! "two dogs"'),
        ("3 dogs", 0, 'dogs=3! "3 dogs"'),
        ("a single dog", 0, 'dog=1! "a single dog"'),
        ("one dog", 0, 'dog=1! "one dog"'),
        ("a pair of dogs", 0, 'dogs=2! "a pair of dogs"'),
        ("both dogs", 0, 'dogs=2! "both dogs"'),
        ("a dozen eggs", 0, 'eggs=12! "a dozen eggs"'),
        ("half a dozen eggs", 0, 'eggs=6! "half a dozen eggs"'),
    ],
    "numbers that are not exact": [
        ("a couple of dogs", 0, 'dogs=2 "a couple of dogs"'),
        ("at least four dogs", 0, 'dogs=4 "at least four dogs"'),
        ("about ten dogs", 0, 'dogs=10 "about ten dogs"'),
        ("a dog", 0, 'dog=1 "a dog"'),
        ("an owl", 0, 'owl=1 "an owl"'),
        ("one of the dogs", 0, 'dogs=1 "one of the dogs"'),
        ("the dog", 0, 'dog=1 "the dog"'),
        ("dog", 0, 'dog=1 "dog"'),
    ],
    "one is enough": [
        ("dogs", 0, 'dogs=? "dogs"'),
        ("wet grass", 0, 'wet grass=? "wet grass"'),
        ("several dogs", 0, 'dogs=? "several dogs"'),
        ("some dogs", 0, 'dogs=? "some dogs"'),
        ("many dogs", 0, 'dogs=? "many dogs"'),
        ("a group of dogs", 0, 'dogs=? "a group of dogs"'),
        ("a herd of cows", 0, 'cows=? "a herd of cows"'),
        ("a bunch of keys", 0, 'keys=? "a bunch of keys"'),
        ("dozens of candles", 0, 'candles=? "dozens of candles"'),
    ],
    "pairs that are one thing": [
        ("a pair of glasses", 0, 'glasses=1 "a pair of glasses"'),
        ("a pair of blue jeans", 0, "blue jeans=1"),
        ("a pair of scissors", 0, "scissors=1"),
        ("a pair of shoes", 0, "shoes=1"),
    ],
    "numbers joined to a word or a unit": [
        ("a 1950s car", 0, "car=1"),
        ("cars, 8k", 0, "cars=?"),
        ("50mm cars", 0, "cars=?"),
        ("50 mm lenses", 0, "lenses=?"),
        ("3-legged stools", 0, "stools=?"),
    ],
    "several mentions": [
        ("two dogs on a sofa, three dogs on a rug", 0, 'dogs=5! "two dogs"'),
        ("two dogs on a sofa, a dog on a rug", 0, 'dogs=3 "two dogs"'),
        ("a dog from image 1 and two dogs from image 2", 2, 'dogs=3@0,1 "a dog"'),
        ("two dogs from image 1 and one dog from image 2", 2, 'dogs=3!@0,1 "two dogs"'),
        ("a dog. The dog sleeps.", 0, "dog=1"),
        ("two dogs. The dogs sleep.", 0, "dogs=2!"),
        ("the dog from image 1 and the dog from image 2", 2, "dog=2@0,1"),
        ("the dog from image 1. The dog of image 1 sleeps.", 2, "dog=1@0"),
        ("a hot dog and two dogs", 0, "hot dog=1; dogs=2!"),
        ("a red sofa. On the sofa lies a cat.", 0, "red sofa=1; cat=1"),
        ("two red cars and three blue cars", 0, "red cars=2!; blue cars=3!"),
    ],
    "not in the prompt": [
        ("a sofa", 2, "zebra=?-; sofa=1"),
        ("deux chiens sur un canap\u00e9", 2, "dogs=?-; couch=?-"),
    ],
    "must not be there": [
        ("no dogs", 0, 'dogs=0! "no dogs"'),
        ("a sofa without dogs", 0, 'sofa=1; dogs=0! "without dogs"'),
        ("a cat instead of a dog", 0, 'cat=1; dog=0! "instead of a dog"'),
        ("a cat rather than a dog", 0, 'cat=1; dog=0! "rather than a dog"'),
        ("a cat, not a dog", 0, 'cat=1; dog=0! "not a dog"'),
        ("remove the dog", 1, 'dog=0! "remove the dog"'),
        ("take away the dog", 1, 'dog=0! "take away the dog"'),
        ("take the dog away", 1, "dog=0!"),
        ("replace the dog with a cat", 1, 'dog=0! "replace the dog"; cat=1 "a cat"'),
        ("turn the dog into a cat", 1, 'dog=0! "turn the dog"; cat=1 "a cat"'),
        ("change the car to red", 1, 'red car<car=1 "the car"'),
        ("remove the dog from image 1", 2, "dog=0!"),
        ("without the hat from image 2", 2, "hat=0!"),
    ],
    "left out by the parser": [
        ("a sofa, no dogs", 0, 'sofa=1; +dogs=0! "no dogs"'),
        ("a cat without a red hat", 0, 'cat=1; +red hat=0! "without a red hat"'),
        ("a cat instead of a dog", 0, "cat=1; +dog=0!"),
        ("a cat rather than a dog", 0, "cat=1; +dog=0!"),
        ("a cat, not a dog", 0, "cat=1; +dog=0!"),
        ("remove the dog", 1, "+dog=0!"),
        ("take away the dog", 1, "+dog=0!"),
        ("take the dog away", 1, "+dog=0!"),
        ("replace the grey carpet with a rug", 1, "rug=1; +grey carpet=0!"),
        ("turn the dog into a wolf", 1, "wolf=1; +dog=0!"),
        ("no dogs and no cats, a sofa", 0, "sofa=1; +dogs=0!; +cats=0!"),
    ],
    "images": [
        ("the dog from image 1", 2, 'dog=1@0 "the dog"'),
        ("the hat in the second reference", 2, 'hat=1@1 "the hat"'),
        ("image 2's sofa", 2, "sofa=1@1"),
        ("a dog (image 1)", 2, "dog=1@0"),
        ("the dog <image1>", 2, "dog=1@0"),
        ("the dog from the last image", 3, "dog=1@2"),
        ("the dog from both images", 2, "dog=1@0,1"),
        ("the dog from all images", 3, "dog=1@0,1,2"),
        ("the dog from image 4", 2, "dog=1@^4"),
        ("the dog from images 1 and 4", 2, "dog=1@0^4"),
        ("a dog", 2, "dog=1"),
    ],
}


@pytest.mark.parametrize(
    ("prompt", "images", "asked"),
    [
        pytest.param(*row, id=f"{rule}: {row[0]} -> {row[2]}")
        for rule, rows in RULES.items()
        for row in rows
    ],
)  # fmt: skip
def test_a_rule_holds(prompt: str, images: int, asked: str) -> None:
    expected = expected_of(asked)
    given = [item.given for item in expected if item.given is not None]
    found = read_prompt(prompt, given, images).asked
    assert [(a.entity, a.asked, a.exact, a.sources, a.missing_images) for a in found] == [
        (e.entity, e.asked, e.exact, e.sources, e.missing_images) for e in expected
    ]
    assert [a.asked_as for a, e in zip(found, expected, strict=True) if e.quote is not None] == [
        e.quote for e in expected if e.quote is not None
    ]


def test_an_entity_that_the_prompt_lacks_has_no_words_and_no_images() -> None:
    assert read_prompt("the dog from image 1", ["zebra"], 1).asked == (Asked("zebra", None, False, None, (), ()),)


def test_what_the_parser_left_out_stands_at_the_end() -> None:
    found = read_prompt("no dogs, a sofa, no cats, a lamp", ["sofa", "cats", "lamp"], 0).entities
    assert found == ["sofa", "cats", "lamp", "dogs"]


def test_a_reference_leaves_the_phrase_and_a_phrase_that_is_one_is_dropped() -> None:
    kept, dropped = without_references(["dog from image 1", "first image", "sofa"])
    assert kept == ["dog", "sofa"]
    assert [(each.entity, each.reason) for each in dropped] == [("first image", "image reference")]
