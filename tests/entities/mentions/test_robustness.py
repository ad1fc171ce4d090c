"""Any text can be read: nothing raises, nothing takes long, and what comes out is consistent."""

from __future__ import annotations

import random
import time

import pytest

from serve_app.entities.mentions import bare_noun, read_prompt, without_references
from serve_app.schemas.phrase_key import phrase_key

LONGEST_PROMPT = 4000
LONGEST_S = 1.0
"""CPU seconds. On two cores at 2.6 GHz the slowest text below takes 0.04; a search that backtracks takes minutes."""

ENTITIES = [
    "dog", "cat", "red sofa", "blue car", "cup of espresso", "old man", "tree", "house", "lamp", "chair", "table",
    "hat", "bird", "boat", "glass vase", "book", "man", "woman", "child", "flower", "stone bridge", "wooden table",
    "image", "photo", "sign", "shoe", "ball", "bag", "street", "cloud", "sky", "river",
]  # fmt: skip
TEXT = """
a an the zero no not two 3 12 half dozen pair of one each every both all last first second image images reference 1 2
and or nor but from in on with without instead rather than remove replace turn into to by for take away red blue change
make do don't never says that is are should be removed other more most at least , . ; : ( ) [ ] < > " ' \u201c \u201d
- / & + | # @image1 <image_2> 8k 50mm 1950s 3-legged 24" $5
"""
WORDS = [*" ".join(ENTITIES).split(), *TEXT.split(), "\n"]

REPEATED = [
    "dog ", "a dog ", "no dog, ", "remove the dog and ", "replace the dog with a cat ", "replace the dog ", "dog, ",
    "turn the dog into a ", "the dog from image 1 ", "image 1, ", "image 1,", "first, ", "image ", "all the ", "all ",
    "both of the ", "images 1 and ", "two ", "1 ", "1", "the ", "red ", "red, ", "red and ", "a-", "a'", "'", '"a" ',
    '"', 'says "no ', "(", ")", "[", "<", "<image", ",", ".", "\n", " ", "\t", "a\n", "_", "image_", "image  ",
    "image\t\t", "#1 ", "image #", "\U0001f469\u200d\U0001f469\u200d\U0001f467 ", "e\u0301", "\u6f22\u5b57",
    "\u0438 \u0441\u043e\u0431\u0430\u043a\u0430 ", "\xdf", "\u0130", "\u2019s ", "not a ", "without ", "instead of ",
    "no other dogs ", "at least ", "half a dozen ", "a herd of ", "pair of ", "dog (image 1) ", "from blue to green ",
    "change the car to red ", "take the dog away ", "the dog should be ", "1-1", "1-", "1/1", '24" ', "cup of ",
    "a b c d e f g h ", "image 1 to 2 to 3 ", "first and second and ", "the input ", "no more than ", "\u201ca ",
    "ing ",
    "without a dog or a cat or ", "dog cat sofa car man tree hat ", "two dogs three cats four boats 5 hats ",
    "a few of the other ", "some of those more than 5 ", "from all images ",
    "morph ", "substitute a ", "remove the dog's ", "no dog's ", "the dog and the cat and ",
]  # fmt: skip


def _random_prompts() -> list[str]:
    rng = random.Random(14)
    prompts = []
    for length in (1, 2, 5, 10, 20, 40, 80, 160) * 60:
        prompts.append(" ".join(rng.choice(WORDS) for _ in range(length)))
    for length in (3, 30, 300) * 60:
        prompts.append("".join(chr(_code_point(rng)) for _ in range(length)))
    for length in (10, 100, 1000) * 20:
        prompts.append("".join(rng.choice("()[]{}<>\"'\u201c\u201d\u00ab\u00bb ,.a1\n") for _ in range(length)))
    return prompts


def _code_point(rng: random.Random) -> int:
    first, last = rng.choice([(0, 127), (0x80, 0x24F), (0x300, 0x36F), (0x370, 0xD7FF), (0xD800, 0xDFFF),
                              (0xE000, 0xFFFF), (0x1F300, 0x1FAFF), (0x10000, 0x10FFFF)])  # fmt: skip
    return rng.randint(first, last)


@pytest.mark.parametrize("images", [0, 1, 3])
def test_random_prompts_are_read_consistently(images: int) -> None:
    rng = random.Random(images)
    for prompt in _random_prompts():
        entities = rng.sample(ENTITIES, rng.randint(0, 6))
        found = read_prompt(prompt, entities, images).asked
        for each in found:
            assert each.entity, prompt
            assert each.asked is None or each.asked >= 0, prompt
            assert each.asked is not None or not each.exact, prompt
            assert set(each.sources) <= set(range(images)), prompt
            assert not any(1 <= number <= images for number in each.missing_images), prompt
            assert each.asked != 0 or (each.exact and not each.sources and not each.missing_images), prompt
            assert each.asked_as is None or each.asked_as.strip(), prompt
            if each.asked_as is None:
                assert (each.asked, each.exact, each.sources) == (None, False, ()), prompt
        keys = [phrase_key(each.entity) for each in found]
        assert len(keys) == len(set(keys)), prompt


def test_quotes_are_words_of_the_prompt() -> None:
    for prompt in _random_prompts():
        plain = "".join(prompt.lower().split())
        for each in read_prompt(prompt, ENTITIES, 2).asked:
            words = (each.asked_as or "").split()
            assert all(word in plain for word in words), prompt


def test_phrases_of_any_kind_are_shortened_without_an_error() -> None:
    for prompt in _random_prompts():
        kept, dropped = without_references([prompt])
        assert len(kept) + len(dropped) == 1 or not prompt
        shorter = bare_noun(prompt)
        assert shorter is None or prompt.split()[-len(shorter.split()) :] == shorter.split()


@pytest.mark.parametrize("piece", REPEATED, ids=ascii)
def test_the_longest_prompt_is_read_at_once(piece: str) -> None:
    prompt = (piece * LONGEST_PROMPT)[:LONGEST_PROMPT]
    begin = time.process_time()
    read_prompt(prompt, ENTITIES, 16)
    read_prompt(prompt, [f"{entity} dog" for entity in ENTITIES], 16)
    without_references([prompt])
    bare_noun(prompt)
    assert time.process_time() - begin < LONGEST_S


@pytest.mark.parametrize(
    "word", ["image", "the", "first", "all", "image 1 and", "<image", "dog", "says", '"', "both of"]
)
@pytest.mark.parametrize("filling", [" ", "\t", "\n", "_", "-", "1", ","], ids=ascii)
def test_a_word_before_a_long_gap_is_read_at_once(word: str, filling: str) -> None:
    prompt = (word + filling * LONGEST_PROMPT)[:LONGEST_PROMPT]
    begin = time.process_time()
    read_prompt(prompt, ENTITIES, 16)
    without_references([prompt])
    assert time.process_time() - begin < LONGEST_S
