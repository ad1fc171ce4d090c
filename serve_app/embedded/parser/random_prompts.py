"""Draws unusual prompts. A parser may read them wrongly, but must answer with an array.

They are prompts of the grammar, parts of prompts, shuffled words, repeated words, and random characters of any script.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from serve_app.embedded.parser.grammar import PromptGrammar

_LONGEST = 1000
"""Largest number of characters of a prompt."""
_SCRIPTS = ((0x20, 0x7E), (0xA1, 0x17F), (0x370, 0x3FF), (0x410, 0x44F), (0x4E00, 0x9FFF), (0x1F300, 0x1F64F))
"""First and last code point of each script."""


def random_prompts(seed: int) -> Iterator[str]:
    """Draw prompts without end.

    Args:
        seed: seed of all random choices.

    Yields:
        Prompts with at least one character that is not white space.
    """
    rng, grammar = random.Random(seed), PromptGrammar(seed)
    makers: list[Callable[[], str]] = [
        lambda: grammar.sample().prompt,
        lambda: _cut(rng, grammar),
        lambda: _shuffled(rng, grammar),
        lambda: _repeated(rng, grammar),
        lambda: _characters(rng),
    ]
    while True:
        prompt = rng.choices(makers, [6, 1, 1, 1, 1])[0]()
        if prompt.strip():
            yield prompt[:_LONGEST]


def _cut(rng: random.Random, grammar: PromptGrammar) -> str:
    prompt = grammar.sample().prompt
    return prompt[rng.randint(0, len(prompt) // 2) : rng.randint(len(prompt) // 2, len(prompt))]


def _shuffled(rng: random.Random, grammar: PromptGrammar) -> str:
    words = [word for _ in range(rng.randint(1, 3)) for word in grammar.sample().prompt.split()]
    rng.shuffle(words)
    return " ".join(words)


def _repeated(rng: random.Random, grammar: PromptGrammar) -> str:
    words = grammar.sample().prompt.split()
    start = rng.randrange(len(words))
    return " ".join(words[start : start + rng.randint(1, 4)] * rng.randint(2, 12))


def _characters(rng: random.Random) -> str:
    ranges = rng.sample(_SCRIPTS, rng.randint(1, len(_SCRIPTS)))
    return "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(1, 60)))
