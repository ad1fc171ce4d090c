"""Makes the embedded parser's training batches from samples of the grammar, without end.

With the same options, a batch depends only on the seed and on the number of its step.
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
"""Number of batches that are drawn together, so that samples of similar length can share a batch."""
_PLACEHOLDER = "\x00"
_SLIPS = 0.12
"""Share of samples with a slip: a wrong entity in the answer. The model learns to continue correctly after it."""


@dataclass(frozen=True)
class EncodedSample:
    """A sample's tokens without the shared prefix.

    Args:
        tokens: token ids of prompt and answer.
        answer_start: number of tokens before the answer.
        slip: positions of the tokens of a wrong entity in the answer; empty if the answer is right. The model reads
            these tokens, but the loss does not count them.
    """

    tokens: list[int]
    answer_start: int
    slip: range = range(0)


@dataclass(frozen=True)
class Answer:
    """The answer of a training sample, right or with a slip.

    Args:
        text: a JSON array of strings.
        slip: positions of the characters of a wrong entity in the text; empty if the answer is right.
    """

    text: str
    slip: range = range(0)


class ChatEncoder:
    """Splits the chat of a sample into the prefix that all chats share and the sample's own tokens.

    Args:
        processor: has the chat template and the tokenizer.
    """

    def __init__(self, processor: Qwen3VLProcessor) -> None:
        self._tokenizer: PreTrainedTokenizerFast = processor.tokenizer
        before, self._after = prompt_text(processor, _PLACEHOLDER).split(_PLACEHOLDER)
        self.prefix_ids: list[int] = self._tokenizer(before)["input_ids"]

    def encode(self, prompts: list[str], answers: list[Answer]) -> list[EncodedSample]:
        """Tokenize samples without the shared prefix.

        Args:
            prompts: the prompts.
            answers: one answer per prompt, in order.
        """
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
    """Insert a wrong entity into an answer, up to three times: an earlier entity, its last word, or prompt words.

    A model that was trained on right answers only does not know how to continue after a mistake of its own. It may
    repeat the mistake without end.

    Args:
        sample: the prompt and the right answer.
        rng: source of all random choices.

    Returns:
        The answer with the wrong entity; the right answer if the drawn words are an entity that comes later in it.
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
    # If entities follow, a right answer has the same comma and opening quote here. At the end of the answer, they are
    # wrong, too. The closing quote after the wrong entity is always right.
    start = len(before) + (len(', "') if place and after else 0) + (len('"') if not place and after else 0)
    return Answer(text, range(start, len(slipped) - len('"')))


def collate(samples: list[EncodedSample], pad_id: int) -> Batch:
    """Pad samples to one length.

    Args:
        samples: at least one.
        pad_id: id of the padding token.
    """
    length = max(len(sample.tokens) for sample in samples)
    input_ids = torch.full((len(samples), length), pad_id, dtype=torch.long)
    is_answer = torch.zeros((len(samples), length), dtype=torch.bool)
    for row, sample in enumerate(samples):
        input_ids[row, : len(sample.tokens)] = torch.tensor(sample.tokens)
        is_answer[row, sample.answer_start : len(sample.tokens)] = True
        is_answer[row, sample.slip.start : sample.slip.stop] = False
    return Batch(input_ids, is_answer)


def parts(batch: Batch, most_tokens: int) -> Iterator[Batch]:
    """Split a batch into parts of at most `most_tokens` tokens, padding included. A part has at least one row."""
    rows = max(1, most_tokens // batch.input_ids.shape[1])
    for start in range(0, len(batch.input_ids), rows):
        yield Batch(batch.input_ids[start : start + rows], batch.is_answer[start : start + rows])


@dataclass(frozen=True)
class BatchChunks(Dataset[list[Batch]]):
    """A dataset whose items are chunks of _CHUNK_BATCHES training batches. Samples of similar length share a batch.

    Args:
        encoder: tokenizes the samples.
        rare_tokens: replaces tokens in some samples.
        seed: seed of the data.
        batch_size: samples in a batch.
        pad_id: id of the padding token.
        length_limit: returns the largest number of tokens that a sample may have at a step.
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
    """Yield training batches without end.

    Args:
        chunks: the batches, in chunks.
        first_step: number of the first batch, from 0. The same number gives the same batch in any run.
        workers: processes that make the batches; 0 makes them in this process.
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
