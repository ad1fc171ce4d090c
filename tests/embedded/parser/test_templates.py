"""Sentence templates: what each kind lists, and that they cover what they promise."""

from __future__ import annotations

import random
import re

import pytest

from serve_app.embedded.parser.grammar import PromptGrammar
from serve_app.embedded.parser.lexicon import Lexicon, load_lexicon
from serve_app.embedded.parser.noun_phrases import NounPhraseSampler, Split
from serve_app.embedded.parser.sentences import Draft, SentenceSampler
from serve_app.embedded.parser.templates import TemplateSampler, load_templates

SLOT = re.compile(r"\{(\w+)\}")
NAMING = {"thing", "the", "bare", "part", "counted", "list", "clause", "chain", "located", "about", "changed", "known"}


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return load_lexicon()


def sampler(lexicon: Lexicon, seed: int) -> TemplateSampler:
    rng = random.Random(seed)
    nouns = NounPhraseSampler(lexicon, rng, Split.TRAIN)
    return TemplateSampler(lexicon, rng, nouns, SentenceSampler(lexicon, rng, Split.TRAIN, nouns))


def filled(monkeypatch: pytest.MonkeyPatch, lexicon: Lexicon, template: str, seed: int) -> Draft:
    monkeypatch.setattr("serve_app.embedded.parser.templates.load_templates", lambda: {"one": (template,)})
    draft = Draft()
    sampler(lexicon, seed).fill(draft, "one")
    return draft


def test_every_template_can_be_filled(monkeypatch: pytest.MonkeyPatch, lexicon: Lexicon) -> None:
    for section, templates in load_templates().items():
        assert templates, section
        for template in templates:
            draft = filled(monkeypatch, lexicon, template, seed=len(template))
            assert "{" not in draft.text
            assert draft.text.strip()


def test_templates_without_a_naming_slot_list_nothing(monkeypatch: pytest.MonkeyPatch, lexicon: Lexicon) -> None:
    silent = [
        template
        for templates in load_templates().values()
        for template in templates
        if not NAMING & set(SLOT.findall(template))
    ]
    assert len(silent) > 60
    for template in silent:
        assert filled(monkeypatch, lexicon, template, seed=7).entities == [], template


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    ("template", "listed", "absent"),
    [
        ("replace {absent_the} with {thing}", 1, r"^replace (the .*) with"),
        ("remove {absent_the} from {the}", 1, r"^remove (the .*) from"),
        ("{thing} without {absent_bare}", 1, r"without (.*)$"),
        ("remove all {absent_bare}", 0, r"^remove all (.*)$"),
    ],
)
def test_what_must_not_be_there_is_not_listed(
    monkeypatch: pytest.MonkeyPatch, lexicon: Lexicon, template: str, listed: int, absent: str, seed: int
) -> None:
    draft = filled(monkeypatch, lexicon, template, seed)
    assert bool(draft.entities) is bool(listed)
    found = re.search(absent, draft.text)
    assert found is not None
    assert not [entity for entity in draft.entities if entity == found.group(1).removeprefix("the ")]


@pytest.mark.parametrize("seed", range(20))
def test_a_changed_colour_belongs_to_the_thing(monkeypatch: pytest.MonkeyPatch, lexicon: Lexicon, seed: int) -> None:
    draft = filled(monkeypatch, lexicon, "change {changed} to {colour}", seed)
    changed, _, colour = draft.text.removeprefix("change ").partition(" to ")
    (entity,) = draft.entities
    assert colour in lexicon["attributes.colour"]
    assert entity.startswith(f"{colour} ")
    words = changed.split(" ", 1)[1]
    # The old colour, where there is one, is gone; another attribute stays.
    rest = entity.removeprefix(f"{colour} ")
    assert words.endswith(rest)
    assert words == rest or words.removesuffix(rest).strip() in lexicon["attributes.colour"]


def test_images_are_named_as_people_name_them(lexicon: Lexicon) -> None:
    templates = sampler(lexicon, 1)
    names = {templates.image() for _ in range(500)}
    assert {"image 1", "image 2", "the first image", "<image1>"} <= names
    assert any(name.startswith("the second ref") for name in names)


@pytest.mark.parametrize("seed", range(10))
def test_the_words_for_an_image_are_not_listed(monkeypatch: pytest.MonkeyPatch, lexicon: Lexicon, seed: int) -> None:
    draft = filled(monkeypatch, lexicon, "{the} from {image}", seed)
    assert len(draft.entities) == 1
    assert f"the {draft.entities[0]} from " in draft.text
    assert filled(monkeypatch, lexicon, "combine {image} and {image}", seed).entities == []


def test_the_grammar_draws_long_prompts_with_many_things() -> None:
    grammar = PromptGrammar(3)
    samples = [grammar.sample() for _ in range(1500)]
    words = [len(sample.prompt.split()) for sample in samples]
    things = [len(sample.entities) for sample in samples]
    assert sum(count > 60 for count in words) > 0.08 * len(samples)
    assert max(words) >= 120
    assert sum(count > 8 for count in things) > 0.08 * len(samples)
    assert max(things) >= 20


def test_quotes_and_weights_are_no_part_of_an_entity() -> None:
    grammar = PromptGrammar(4)
    samples = [grammar.sample() for _ in range(1500)]
    assert sum('"' in sample.prompt for sample in samples) > 30
    assert sum(re.search(r"\(\(|:\d\.\d", sample.prompt) is not None for sample in samples) > 10
    assert not [entity for sample in samples for entity in sample.entities if set(entity) & set('"“”()[]<>:')]
