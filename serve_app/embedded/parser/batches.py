"""Training batches of the embedded parser: samples of the grammar as token ids, drawn without end.

A batch depends on the seed and the number of its step alone.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedTokenizerFast, Qwen3VLProcessor

from serve_app.embedded.parser.checkpoint import answer_text, prompt_text
from serve_app.embedded.parser.forward import Batch
from serve_app.embedded.parser.grammar import PromptGrammar, PromptSample
from serve_app.embedded.parser.rare_tokens import RareTokens

_CHUNK_BATCHES = 16
_PLACEHOLDER = "\x00"
_SLIPS = 0.12
"""The share of samples whose answer has a wrong entity in it, from which the model learns to go on."""


@dataclass(frozen=True)
class EncodedSample:
    """A sample's tokens without the shared prefix.

    Args:
        tokens: of prompt and answer.
        answer_start: how many stand before the answer.
        slip: which tokens of the answer are wrong: they are read, but not learnt.
    """

    tokens: list[int]
    answer_start: int
    slip: range = range(0)


@dataclass(frozen=True)
class Answer:
    """An answer to be read in training.

    Args:
        text: a JSON array of strings.
        slip: characters of a wrong entity in it.
    """

    text: str
    slip: range = range(0)


class ChatEncoder:
    """Splits the chat of a sample into the shared prefix and the sample's own tokens.

    Args:
        processor: holds the chat template and the tokenizer.
    """

    def __init__(self, processor: Qwen3VLProcessor) -> None:
        self._tokenizer: PreTrainedTokenizerFast = processor.tokenizer
        before, self._after = prompt_text(processor, _PLACEHOLDER).split(_PLACEHOLDER)
        self.prefix_ids: list[int] = self._tokenizer(before)["input_ids"]

    def encode(self, prompts: list[str], answers: list[Answer]) -> list[EncodedSample]:
        """Tokenize samples without the shared prefix."""
        asked = self._tokenizer([prompt + self._after for prompt in prompts])["input_ids"]
        answered = self._tokenizer([answer.text + "<|im_end|>" for answer in answers], return_offsets_mapping=True)
        samples = []
        for question, tokens, offsets, answer in zip(
            asked, answered["input_ids"], answered["offset_mapping"], answers, strict=True
        ):
            slip = [
                len(question) + place
                for place, (start, end) in enumerate(offsets)
                if start < answer.slip.stop and end > answer.slip.start
            ]
            spoilt = range(slip[0], slip[-1] + 1) if slip else range(0)
            samples.append(EncodedSample(question + tokens, len(question), spoilt))
        return samples


def with_slip(sample: PromptSample, rng: random.Random) -> Answer:
    """Put a wrong entity into an answer: one that it has already, or words of the prompt.

    A model that has read right answers only does not know how to go on after a mistake of its own, and may repeat it
    without end.

    Args:
        sample: prompt and right answer.
        rng: the source of every choice.

    Returns:
        The right answer where the words drawn are an entity that is still to come.
    """
    place = rng.randint(0, len(sample.entities))
    if place and rng.random() < 0.5:
        wrong = rng.choice(sample.entities[max(0, place - 2) : place])
        wrong = rng.choice([wrong, wrong.split(" ")[-1]])
    else:
        words = re.findall(r"[^\W_]+", sample.prompt.lower()) or ["thing"]
        start = rng.randrange(len(words))
        wrong = " ".join(words[start : start + rng.choice([1, 1, 2])])
    after = sample.entities[place:]
    if wrong in after:
        return Answer(answer_text(sample.entities))
    copies = [wrong] * rng.choice([1, 1, 1, 2, 3])
    before = answer_text(sample.entities[:place])[:-1]
    slipped = answer_text((*sample.entities[:place], *copies))[:-1]
    text = answer_text((*sample.entities[:place], *copies, *after))
    # From the end on, the comma before the wrong entity is wrong, too. What ends the entity is right.
    start = len(before) + (len(', "') if place and after else 0) + (len('"') if not place and after else 0)
    return Answer(text, range(start, len(slipped) - len('"')))


def collate(samples: list[EncodedSample], pad_id: int) -> Batch:
    """Pad samples to one length."""
    length = max(len(sample.tokens) for sample in samples)
    input_ids = torch.full((len(samples), length), pad_id, dtype=torch.long)
    is_answer = torch.zeros((len(samples), length), dtype=torch.bool)
    for row, sample in enumerate(samples):
        input_ids[row, : len(sample.tokens)] = torch.tensor(sample.tokens)
        is_answer[row, sample.answer_start : len(sample.tokens)] = True
        is_answer[row, sample.slip.start : sample.slip.stop] = False
    return Batch(input_ids, is_answer)


def parts(batch: Batch, most_tokens: int) -> Iterator[Batch]:
    """Cut a batch into runs of rows of at most `most_tokens` padded tokens, or of one row."""
    rows = max(1, most_tokens // batch.input_ids.shape[1])
    for start in range(0, len(batch.input_ids), rows):
        yield Batch(batch.input_ids[start : start + rows], batch.is_answer[start : start + rows])


@dataclass(frozen=True)
class BatchChunks(Dataset[list[Batch]]):
    """Runs of _CHUNK_BATCHES training batches, by number; samples of like length share a batch.

    Args:
        encoder: tokenizes the samples.
        rare_tokens: swapped into some of them.
        seed: of the data.
        batch_size: samples a batch.
        pad_id: the padding token.
        length_limit: the most tokens that a sample may have at a step.
    """

    encoder: ChatEncoder
    rare_tokens: RareTokens
    seed: int
    batch_size: int
    pad_id: int
    length_limit: Callable[[int], int]

    def __getitem__(self, chunk: int) -> list[Batch]:
        rng = random.Random(chunk)
        grammar = PromptGrammar(self.seed * 1_000_003 + chunk)
        limit = self.length_limit(chunk * _CHUNK_BATCHES)
        encoded = _encoded_samples(self.encoder, grammar, _CHUNK_BATCHES * self.batch_size, limit, rng)
        encoded.sort(key=lambda sample: len(sample.tokens))
        encoded = [
            replace(sample, tokens=self.rare_tokens.swap(sample.tokens, sample.answer_start, rng)) for sample in encoded
        ]
        order = list(range(_CHUNK_BATCHES))
        rng.shuffle(order)
        size = self.batch_size
        return [collate(encoded[index * size : (index + 1) * size], self.pad_id) for index in order]


def batches(chunks: BatchChunks, first_step: int, workers: int = 0) -> Iterator[Batch]:
    """Draw training batches without end.

    Args:
        chunks: what they are drawn from.
        first_step: the number of the first batch, counted from 0; the same number gives the same batch in any run.
        workers: processes that make the batches; 0: this one does.
    """
    numbers = itertools.count(first_step // _CHUNK_BATCHES)
    loader = DataLoader(chunks, batch_size=None, sampler=numbers, num_workers=workers)
    for chunk in loader:
        yield from chunk[first_step % _CHUNK_BATCHES :]
        first_step = 0


def _encoded_samples(
    encoder: ChatEncoder, grammar: PromptGrammar, count: int, limit: int, rng: random.Random
) -> list[EncodedSample]:
    """Draw and tokenize `count` samples of at most `limit` tokens."""
    kept: list[EncodedSample] = []
    while len(kept) < count:
        samples = [grammar.sample() for _ in range(count)]
        answers = [
            with_slip(sample, rng) if rng.random() < _SLIPS else Answer(answer_text(sample.entities))
            for sample in samples
        ]
        encoded = encoder.encode([sample.prompt for sample in samples], answers)
        kept.extend(sample for sample in encoded if len(sample.tokens) <= limit)
    return kept[:count]
