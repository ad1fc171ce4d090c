"""Trains the parser to copy tokens that the grammar's own words hardly ever use.

A quarter of the tokens are beginnings of longer tokens, such as "joy" of "joyful". Training words rarely contain them
as separate tokens, but unseen words such as "joystick" do. The parser copies a token wrongly if it was never part of an
answer in training. The same is true for the bytes of letters that no listed word has.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter

from transformers import PreTrainedTokenizerFast

from serve_app.embedded.parser.checkpoint import answer_text
from serve_app.embedded.parser.grammar import PromptGrammar

_COUNTED_SAMPLES = 4000
"""Samples in which tokens are counted."""
_RARE = 8
"""A token is rare if it is in fewer counted answers than this."""
_SWAPPED_SAMPLES, _SWAPPED_TOKENS = 0.4, 0.3
"""The share of samples with swaps, and the share of their copied tokens that are swapped."""


class RareTokens:
    """Replaces copied tokens with rare ones, the same ones everywhere in a sample.

    Args:
        tokenizer: the parser's tokenizer.
        seed: seed of the prompts in which tokens are counted.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        answers = [answer_text(sample.entities) for sample in itertools.islice(PromptGrammar(seed), _COUNTED_SAMPLES)]
        counts = Counter(token for ids in tokenizer(answers)["input_ids"] for token in set(ids))
        words = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        self._letters = {token for token, word in enumerate(words) if word.isascii() and word.isalpha()}
        rare = {token for token in self._letters if counts[token] < _RARE}
        # Single characters that are not ASCII stand for the bytes of other letters than "a" to "z".
        self.rare = sorted(rare | {token for token, word in enumerate(words) if len(word) == 1 and not word.isascii()})

    def swap(self, tokens: list[int], answer_start: int, rng: random.Random) -> list[int]:
        """Replace some letter tokens that the answer copies from the prompt with rare ones. Most samples do not change.

        Args:
            tokens: token ids of prompt and answer.
            answer_start: number of tokens before the answer.
            rng: source of all random choices.

        Returns:
            Token ids, as many as were given.
        """
        if rng.random() >= _SWAPPED_SAMPLES:
            return tokens
        copied = sorted(set(tokens[:answer_start]) & set(tokens[answer_start:]) & self._letters)
        chosen = [token for token in copied if rng.random() < _SWAPPED_TOKENS]
        substitutes = rng.sample(self.rare, len(chosen))
        swaps = dict(zip(chosen, substitutes, strict=True))
        return [swaps.get(token, token) for token in tokens]
