"""The grammar: what it draws, and that what it says it holds out is held out."""

from __future__ import annotations

import itertools
import re

import pytest

from serve_app.embedded.parser.grammar import PromptGrammar, PromptSample
from serve_app.embedded.parser.lexicon import (
    Lexicon,
    load_lexicon,
    parse_lexicon,
    present_participle,
    third_person,
    with_article,
)
from serve_app.embedded.parser.noun_phrases import Split, is_held_out_pair

TRAINING_SEED = 11


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return load_lexicon()


@pytest.fixture(scope="module")
def training_samples() -> list[PromptSample]:
    return list(itertools.islice(PromptGrammar(TRAINING_SEED), 3000))


@pytest.fixture(scope="module")
def held_out_samples() -> list[PromptSample]:
    return list(itertools.islice(PromptGrammar(TRAINING_SEED, Split.HELD_OUT), 1000))


def test_lexicon_has_the_promised_nouns(lexicon: Lexicon) -> None:
    assert len(lexicon.training_nouns) >= 1500
    assert len(lexicon["nouns.held_out"]) >= 80
    assert not lexicon.training_nouns & set(lexicon["nouns.held_out"])


def test_lexicon_lines_are_within_sections() -> None:
    assert parse_lexicon("# note\n[a]\nred sofa, dog,\ncat\n[b]\n")["a"] == ("red sofa", "dog", "cat")
    with pytest.raises(ValueError, match=r"before the first \[section\]"):
        parse_lexicon("dog, cat\n[a]\n")


@pytest.mark.parametrize(
    ("singular", "plural"),
    [
        ("dog", "dogs"),
        ("bus stop", "bus stops"),
        ("snowman", "snowmen"),
        ("cherry", "cherries"),
        ("toy", "toys"),
        ("match", "matches"),
        ("butter knife", "butter knives"),
        ("ball of yarn", "balls of yarn"),
    ],
)
def test_plural_forms(lexicon: Lexicon, singular: str, plural: str) -> None:
    assert lexicon.plural(singular) == plural


@pytest.mark.parametrize(
    ("verb", "participle", "third"),
    [
        ("sit on", "sitting on", "sits on"),
        ("ride", "riding", "rides"),
        ("lie in", "lying in", "lies in"),
        ("carry", "carrying", "carries"),
        ("watch", "watching", "watches"),
        ("unwrap", "unwrapping", "unwraps"),
    ],
)
def test_verb_forms(verb: str, participle: str, third: str) -> None:
    assert (present_participle(verb), third_person(verb)) == (participle, third)


@pytest.mark.parametrize(("phrase", "text"), [("apple", "an apple"), ("unicorn", "a unicorn"), ("dog", "a dog")])
def test_with_article_by_sound(phrase: str, text: str) -> None:
    assert with_article(phrase) == text


def test_sample_is_the_same_for_a_seed() -> None:
    first, second = PromptGrammar(3), PromptGrammar(3)
    assert [first.sample() for _ in range(50)] == [second.sample() for _ in range(50)]
    assert PromptGrammar(4).sample() != PromptGrammar(3).sample()


def test_sample_entities_stand_in_the_prompt(training_samples: list[PromptSample]) -> None:
    recoloured = 0
    for sample in training_samples:
        text = re.sub("[\"'\u201c\u201d](?!s )", "", sample.prompt.lower())
        assert len(set(sample.entities)) == len(sample.entities)
        for entity in sample.entities:
            assert entity == entity.lower().strip()
            if entity not in text:
                # "make the car red" lists "red car".
                assert all(word in text for word in entity.split()), (entity, sample)
                recoloured += 1
    assert 0 < recoloured < 0.04 * len(training_samples)


def test_sample_entities_have_no_article_or_count(training_samples: list[PromptSample], lexicon: Lexicon) -> None:
    determiners = {"a", "an", "the", *lexicon["determiners"], *lexicon["counts"]}
    for sample in training_samples:
        counted = [entity for entity in sample.entities if entity.split(" ")[0] in determiners]
        assert not [entity for entity in counted if "year old" not in entity], sample


def test_sample_entities_are_no_style_words(held_out_samples: list[PromptSample], lexicon: Lexicon) -> None:
    style = set(lexicon.group("tags")) - lexicon.training_nouns
    assert not [entity for sample in held_out_samples for entity in sample.entities if entity in style]


def test_training_samples_have_no_held_out_noun(training_samples: list[PromptSample], lexicon: Lexicon) -> None:
    held_out = set(lexicon["nouns.held_out"]) | {lexicon.plural(noun) for noun in lexicon["nouns.held_out"]}
    words = {word.strip(".,;\"'()[]") for sample in training_samples for word in sample.prompt.lower().split()}
    assert not words & held_out


def coloured_pairs(samples: list[PromptSample], lexicon: Lexicon) -> list[tuple[str, str]]:
    """A colour before a listed noun, unless the two are a listed noun themselves ("blue sky")."""
    colours = set(lexicon["attributes.colour"]) - lexicon.training_noun_words
    nouns = set(lexicon.countable_nouns)
    entities = [entity for sample in samples for entity in sample.entities if entity not in lexicon.training_nouns]
    pairs = [entity.partition(" ") for entity in entities]
    return [(first, rest) for first, _, rest in pairs if first in colours and rest in nouns]


def test_training_samples_have_no_held_out_pair(training_samples: list[PromptSample], lexicon: Lexicon) -> None:
    pairs = coloured_pairs(training_samples, lexicon)
    assert len(pairs) > 50
    assert not [pair for pair in pairs if is_held_out_pair(*pair)]


def test_held_out_samples_pair_as_training_never_does(held_out_samples: list[PromptSample], lexicon: Lexicon) -> None:
    pairs = coloured_pairs(held_out_samples, lexicon)
    assert len(pairs) > 20
    assert all(is_held_out_pair(*pair) for pair in pairs)


def test_held_out_samples_name_held_out_nouns(held_out_samples: list[PromptSample], lexicon: Lexicon) -> None:
    held_out = set(lexicon["nouns.held_out"]) | {lexicon.plural(noun) for noun in lexicon["nouns.held_out"]}
    named = [sample for sample in held_out_samples if {entity.split(" ")[-1] for entity in sample.entities} & held_out]
    assert len(named) > len(held_out_samples) / 2
