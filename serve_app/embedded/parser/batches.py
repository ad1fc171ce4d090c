"""Training batches of the embedded parser: samples of the grammar as token ids, drawn without end.

A batch depends on the seed and the number of its step alone.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator

import torch
from transformers import PreTrainedTokenizerFast, Qwen3VLProcessor

from serve_app.embedded.parser.checkpoint import answer_text, prompt_text
from serve_app.embedded.parser.forward import Batch
from serve_app.embedded.parser.grammar import PromptGrammar
from serve_app.embedded.parser.rare_tokens import RareTokens

_CHUNK_BATCHES = 16
_PLACEHOLDER = "\x00"


class ChatEncoder:
    """Splits the chat of a sample into the shared prefix and the sample's own tokens.

    Args:
        processor: holds the chat template and the tokenizer.
    """

    def __init__(self, processor: Qwen3VLProcessor) -> None:
        self._tokenizer: PreTrainedTokenizerFast = processor.tokenizer
        before, self._after = prompt_text(processor, _PLACEHOLDER).split(_PLACEHOLDER)
        self.prefix_ids: list[int] = self._tokenizer(before)["input_ids"]

    def encode(self, prompts: list[str], answers: list[str]) -> list[tuple[list[int], int]]:
        """Tokenize samples without the shared prefix.

        Returns:
            For each sample its tokens and how many of them stand before the answer.
        """
        asked = self._tokenizer([prompt + self._after for prompt in prompts])["input_ids"]
        answered = self._tokenizer([answer + "<|im_end|>" for answer in answers])["input_ids"]
        return [(question + answer, len(question)) for question, answer in zip(asked, answered, strict=True)]


def collate(samples: list[tuple[list[int], int]], pad_id: int) -> Batch:
    """Pad samples of `ChatEncoder.encode` to one length."""
    length = max(len(tokens) for tokens, _ in samples)
    input_ids = torch.full((len(samples), length), pad_id, dtype=torch.long)
    is_answer = torch.zeros((len(samples), length), dtype=torch.bool)
    for row, (tokens, answer_start) in enumerate(samples):
        input_ids[row, : len(tokens)] = torch.tensor(tokens)
        is_answer[row, answer_start : len(tokens)] = True
    return Batch(input_ids, is_answer)


def batches(
    encoder: ChatEncoder,
    rare_tokens: RareTokens,
    seed: int,
    batch_size: int,
    pad_id: int,
    first_step: int,
    length_limit: Callable[[int], int],
) -> Iterator[Batch]:
    """Draw training batches without end; samples of like length share a batch.

    Args:
        encoder: tokenizes the samples.
        rare_tokens: swapped into some of them.
        seed: of the data.
        batch_size: samples a batch.
        pad_id: the padding token.
        first_step: the number of the first batch, counted from 0; the same number gives the same batch in any run.
        length_limit: the most tokens that a sample may have at a step.
    """
    for chunk in itertools.count(first_step // _CHUNK_BATCHES):
        limit = length_limit(chunk * _CHUNK_BATCHES)
        encoded = _encoded_samples(encoder, PromptGrammar(seed * 1_000_003 + chunk), _CHUNK_BATCHES * batch_size, limit)
        encoded.sort(key=lambda sample: len(sample[0]))
        rng = random.Random(chunk)
        encoded = [(rare_tokens.swap(tokens, answer_start, rng), answer_start) for tokens, answer_start in encoded]
        order = list(range(_CHUNK_BATCHES))
        rng.shuffle(order)
        for index in order[first_step % _CHUNK_BATCHES if chunk == first_step // _CHUNK_BATCHES else 0 :]:
            yield collate(encoded[index * batch_size : (index + 1) * batch_size], pad_id)


def _encoded_samples(
    encoder: ChatEncoder, grammar: PromptGrammar, count: int, limit: int
) -> list[tuple[list[int], int]]:
    """Draw and tokenize `count` samples of at most `limit` tokens."""
    kept: list[tuple[list[int], int]] = []
    while len(kept) < count:
        samples = [grammar.sample() for _ in range(count)]
        answers = [answer_text(sample.entities) for sample in samples]
        encoded = encoder.encode([sample.prompt for sample in samples], answers)
        kept.extend(sample for sample in encoded if len(sample[0]) <= limit)
    return kept[:count]
