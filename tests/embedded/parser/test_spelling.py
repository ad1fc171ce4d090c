"""Words in other letters and digits, alike in the prompt and in its entities."""

from __future__ import annotations

import random
import re

import pytest

from serve_app.embedded.parser.grammar import PromptGrammar
from serve_app.embedded.parser.lexicon import load_lexicon
from serve_app.embedded.parser.spelling import respell, respelled


def test_respelled_words_are_the_same_in_prompt_and_entities() -> None:
    text, entities = "a red dog on a wooden table. the dog sleeps.", ["red dog", "wooden table"]
    changed = [respell(text, entities, random.Random(seed)) for seed in range(200)]
    for new_text, new_entities in changed:
        assert all(entity in new_text for entity in new_entities)
        assert len(new_entities) == 2
        assert re.sub(r"\W", "", new_text[-8:]) == "sleeps"
    assert 30 < sum(new_text != text for new_text, _ in changed) < 120


def test_respelling_covers_accents_scripts_and_digits() -> None:
    rng = random.Random(1)
    words = [respelled("mountain", rng) for _ in range(400)]
    letters = {letter for word in words for letter in word}
    assert {"ñ", "ó", "ţ", "7"} <= letters
    assert any("\u0430" <= letter <= "\u044f" for letter in letters)
    assert any("\u4e00" <= letter <= "\u9fff" for letter in letters)


@pytest.mark.parametrize("seed", range(300))
def test_no_number_that_would_be_a_count_stands_before_a_noun(seed: int) -> None:
    number = re.match(r"(\d+) ", respelled("dog", random.Random(seed)))
    assert number is None or 1800 <= int(number.group(1)) < 2100


def test_part_of_a_compound_is_left_alone() -> None:
    text, entities = "a three-legged dog", ["three-legged dog"]
    for seed in range(100):
        assert "three-legged" in respell(text, entities, random.Random(seed))[0]


def test_capitals_of_a_sample_lead_back_to_its_entities() -> None:
    grammar = PromptGrammar(8)
    counts = set(load_lexicon()["counts"])
    other = 0
    for sample in (grammar.sample() for _ in range(1500)):
        text = re.sub("[\"'\u201c\u201d](?!s )", "", sample.prompt.lower())
        assert all(word in text for entity in sample.entities for word in entity.split())
        other += any(not entity.isascii() for entity in sample.entities)
        assert not counts & set(sample.entities)
    assert other > 100
