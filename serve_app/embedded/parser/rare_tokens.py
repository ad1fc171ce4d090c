"""Makes the parser copy tokens that the grammar's own words hardly ever use.

A quarter of the vocabulary are pieces on the way to a longer token ("joy" before "joyful"). Words of training seldom
split there, words that it has never seen do ("joystick"), and a piece that was never an answer is copied wrong. So are
the bytes of letters that no listed word has.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter

from transformers import PreTrainedTokenizerFast

from serve_app.embedded.parser.checkpoint import answer_text
from serve_app.embedded.parser.grammar import PromptGrammar

_COUNTED_SAMPLES = 4000
_RARE = 8
"""A token of fewer counted answers is rare."""
_SWAPPED_SAMPLES, _SWAPPED_TOKENS = 0.4, 0.3
"""The share of samples with swaps, and of the copied tokens in them that are swapped."""


class RareTokens:
    """Swaps copied tokens for rare ones, the same throughout a sample.

    Args:
        tokenizer: the parser's.
        seed: of the prompts on which tokens are counted.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        answers = [answer_text(sample.entities) for sample in itertools.islice(PromptGrammar(seed), _COUNTED_SAMPLES)]
        counts = Counter(token for ids in tokenizer(answers)["input_ids"] for token in set(ids))
        words = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        self._letters = {token for token, word in enumerate(words) if word.isascii() and word.isalpha()}
        rare = {token for token in self._letters if counts[token] < _RARE}
        # The bytes that other letters than "a" to "z" are written in.
        self.rare = sorted(rare | {token for token, word in enumerate(words) if len(word) == 1 and not word.isascii()})

    def swap(self, tokens: list[int], answer_start: int, rng: random.Random) -> list[int]:
        """Replace some of the letter tokens that an answer copies from its prompt by rare ones, in most samples none.

        Args:
            tokens: of prompt and answer.
            answer_start: how many stand before the answer.
            rng: the source of every choice.

        Returns:
            As many tokens.
        """
        if rng.random() >= _SWAPPED_SAMPLES:
            return tokens
        copied = sorted(set(tokens[:answer_start]) & set(tokens[answer_start:]) & self._letters)
        chosen = [token for token in copied if rng.random() < _SWAPPED_TOKENS]
        substitutes = rng.sample(self.rare, len(chosen))
        swaps = dict(zip(chosen, substitutes, strict=True))
        return [swaps.get(token, token) for token in tokens]
