"""Measures a parser checkpoint on held-out prompts of the grammar and on prompts that were written by hand.

Uses the checkpoint like any Qwen3-VL: stock `from_pretrained`, the chat template, greedy `generate`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from serve_app.embedded.parser.checkpoint import answer_text
from serve_app.embedded.parser.grammar import PromptGrammar, PromptSample
from serve_app.embedded.parser.lexicon import Lexicon, load_lexicon
from serve_app.embedded.parser.noun_phrases import Split
from serve_app.embedded.parser.random_prompts import random_prompts
from serve_app.entities.chat import chat_messages

CHECKPOINT_FOLDER = Path(__file__).parents[1] / "checkpoints" / "parser"
HAND_WRITTEN_PROMPTS = Path("tests/data/prompts.json")
LONG_PROMPTS = Path("tests/data/prompts_long.json")
FEW_THINGS = 8
"""Prompts with more entities than this are measured separately."""
LONGEST_REPLY = 256
"""Largest number of tokens of a reply: the default of `models.text_parser.max_new_tokens`."""
_BATCH = 50
"""Random prompts that are decoded together."""


@dataclass(frozen=True)
class Figures:
    """Counts that compare answers with the expected entities.

    Args:
        prompts: number of prompts, at least one.
        exact: answers that equal the expected list, order included.
        unreadable: answers that are not a JSON array of strings; they count as empty.
        found: expected entities that are in the answer, by exact text.
        expected: number of expected entities.
        answered: number of answered entities.
    """

    prompts: int
    exact: int
    unreadable: int
    found: int
    expected: int
    answered: int

    @property
    def exact_rate(self) -> float:
        """Share of prompts whose answer is exactly the expected list, in [0, 1]."""
        return self.exact / self.prompts

    @property
    def precision(self) -> float:
        """Share of answered entities that were expected, in [0, 1]; 1 if none was answered."""
        return self.found / self.answered if self.answered else 1.0

    @property
    def recall(self) -> float:
        """Share of expected entities that were answered, in [0, 1]; 1 if none was expected."""
        return self.found / self.expected if self.expected else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, in [0, 1]; 0 if both are 0."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0

    def __str__(self) -> str:
        """Return the figures as one line."""
        return (
            f"{self.prompts} prompts: exact list {self.exact_rate:.3f}, precision {self.precision:.3f}, "
            f"recall {self.recall:.3f}, F1 {self.f1:.3f}, unreadable {self.unreadable}"
        )


class ParserCheckpoint:
    """A parser loaded from a folder, in float32 on the CPU.

    Args:
        folder: the checkpoint folder.
    """

    def __init__(self, folder: Path) -> None:
        self._model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        self._processor: Qwen3VLProcessor = AutoProcessor.from_pretrained(folder)

    def reply(self, prompt: str) -> str:
        """Return the model's answer to one prompt, without special tokens."""
        inputs = self._processor.apply_chat_template(
            chat_messages(prompt), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        with torch.inference_mode():
            output = self._model.generate(**inputs, do_sample=False, max_new_tokens=LONGEST_REPLY)
        answer = output[0, inputs["input_ids"].shape[1] :]
        return str(self._processor.decode(answer, skip_special_tokens=True))

    def replies(self, prompts: Sequence[str]) -> list[str]:
        """Return the model's answers to several prompts, decoded in one batch, in order."""
        texts = [
            self._processor.apply_chat_template(chat_messages(prompt), add_generation_prompt=True, tokenize=False)
            for prompt in prompts
        ]
        inputs = self._processor.tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
        with torch.inference_mode():
            output = self._model.generate(**inputs, do_sample=False, max_new_tokens=LONGEST_REPLY)
        answers = output[:, inputs["input_ids"].shape[1] :]
        return [str(text) for text in self._processor.tokenizer.batch_decode(answers, skip_special_tokens=True)]


def read_prompts(path: Path) -> list[PromptSample]:
    """Read prompts and their right answers from a JSON array of objects with `prompt` and `entities`."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [PromptSample(row["prompt"], tuple(row["entities"])) for row in rows]


def held_out_samples(count: int, seed: int, fewest: int = 0, most: int = sys.maxsize) -> list[PromptSample]:
    """Draw prompts with nouns and attribute-noun pairs that training never uses.

    Args:
        count: number of prompts.
        seed: seed of all random choices.
        fewest: smallest number of entities of a prompt.
        most: largest number of entities of a prompt.
    """
    drawn = PromptGrammar(seed, Split.HELD_OUT)
    return list(itertools.islice((sample for sample in drawn if fewest <= len(sample.entities) <= most), count))


def head_noun(entity: str) -> str:
    """Return the head noun of an entity: its last word, or the last word of X in "X of Y".

    >>> head_noun("old oak tree"), head_noun("bowl of red apples")
    ('tree', 'bowl')
    """
    return entity.split(" of ")[0].split(" ")[-1]


def names_unseen_noun(sample: PromptSample, lexicon: Lexicon) -> bool:
    """Tell whether an entity of the prompt has a head noun that is not a word of any training noun."""
    return any(head_noun(entity) not in lexicon.training_noun_words for entity in sample.entities)


def measure(samples: Sequence[PromptSample], replies: Sequence[str]) -> Figures:
    """Compare replies with the expected entities.

    Args:
        samples: prompts with the expected entities, at least one.
        replies: one reply per sample, in order.
    """
    answers = [read_answer(reply) for reply in replies]
    pairs = [(sample.entities, answer or ()) for sample, answer in zip(samples, answers, strict=True)]
    return Figures(
        prompts=len(samples),
        exact=sum(sample.entities == answer for sample, answer in zip(samples, answers, strict=True)),
        unreadable=sum(answer is None for answer in answers),
        found=sum(len(set(expected) & set(answer)) for expected, answer in pairs),
        expected=sum(len(set(expected)) for expected, _ in pairs),
        answered=sum(len(set(answer)) for _, answer in pairs),
    )


def read_answer(reply: str) -> tuple[str, ...] | None:
    """Read a reply that is a JSON array of strings and nothing else; return None for any other reply.

    >>> read_answer('["dog", "red sofa"]'), read_answer("dog, red sofa")
    (('dog', 'red sofa'), None)
    """
    try:
        answer = json.loads(reply)
    except json.JSONDecodeError:
        return None
    if not isinstance(answer, list) or not all(isinstance(entity, str) for entity in answer):
        return None
    return tuple(answer)


def _report_errors(samples: Iterable[PromptSample], replies: Iterable[str], count: int) -> None:
    wrong = (
        (sample, reply) for sample, reply in zip(samples, replies, strict=True) if read_answer(reply) != sample.entities
    )
    for sample, reply in itertools.islice(wrong, count):
        print(f"  prompt   {sample.prompt}\n  expected {answer_text(sample.entities)}\n  answer   {reply}")


def _ask(title: str, checkpoint: ParserCheckpoint, samples: Sequence[PromptSample], errors: int) -> list[str]:
    """Answer each prompt separately, print the figures and some wrong answers, and return the replies."""
    started = time.monotonic()
    replies = [checkpoint.reply(sample.prompt) for sample in samples]
    milliseconds = (time.monotonic() - started) / len(samples) * 1000
    print(f"{title}: {measure(samples, replies)}, {milliseconds:.0f} ms per prompt", flush=True)
    _report_errors(samples, replies, errors)
    return replies


def _report_invalid(checkpoint: ParserCheckpoint, count: int, seed: int) -> None:
    """Print the random prompts whose reply is not an array of strings, and their number."""
    prompts = list(itertools.islice(random_prompts(seed), count))
    prompts.sort(key=len)
    invalid = 0
    for start in range(0, count, _BATCH):
        batch = prompts[start : start + _BATCH]
        for prompt, reply in zip(batch, checkpoint.replies(batch), strict=True):
            if read_answer(reply) is None:
                invalid += 1
                print(f"  prompt   {prompt}\n  answer   {reply}", flush=True)
    print(f"random: {count} prompts, invalid {invalid}", flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the parser's evaluation."""
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT_FOLDER, help="checkpoint folder to measure")
    parser.add_argument("--prompts", type=Path, default=HAND_WRITTEN_PROMPTS, help="JSON file of hand-written prompts")
    parser.add_argument(
        "--long-prompts", type=Path, default=LONG_PROMPTS, help="JSON file of long hand-written prompts"
    )
    parser.add_argument(
        "--grammar-prompts",
        type=int,
        default=500,
        help=f"number of held-out prompts with at most {FEW_THINGS} entities; 0 for none",
    )
    parser.add_argument(
        "--many-things",
        type=int,
        default=200,
        help=f"number of held-out prompts with more than {FEW_THINGS} entities; 0 for none",
    )
    parser.add_argument(
        "--random-prompts",
        type=int,
        default=5000,
        help="number of unusual prompts, for which only the form of the answer is checked; 0 for none",
    )
    parser.add_argument(
        "--seed", type=int, default=20_000_000_000, help="seed of the drawn prompts; training must not use it"
    )
    parser.add_argument(
        "--errors", type=int, default=0, help="number of wrong answers to print for each set of prompts"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch on the CPU")


def run(args: argparse.Namespace) -> int:
    """Measure the checkpoint and print the figures.

    Returns:
        The exit status, 0.
    """
    torch.set_num_threads(args.threads)
    checkpoint = ParserCheckpoint(args.checkpoint)
    lexicon = load_lexicon()
    if args.grammar_prompts:
        few = held_out_samples(args.grammar_prompts, args.seed, most=FEW_THINGS)
        _ask(f"grammar, held out, up to {FEW_THINGS} things", checkpoint, few, args.errors)
    if args.many_things:
        many = held_out_samples(args.many_things, args.seed, fewest=FEW_THINGS + 1)
        _ask(f"grammar, held out, more than {FEW_THINGS} things", checkpoint, many, args.errors)
    written = read_prompts(args.prompts)
    replies = _ask("written by hand", checkpoint, written, args.errors)
    for title, unseen in (("  with a noun outside the training list", True), ("  with listed nouns only", False)):
        chosen = [index for index, sample in enumerate(written) if names_unseen_noun(sample, lexicon) is unseen]
        if chosen:
            figures = measure([written[index] for index in chosen], [replies[index] for index in chosen])
            print(f"{title}: {figures}")
    _ask("written by hand, 40 to 120 words", checkpoint, read_prompts(args.long_prompts), args.errors)
    if args.random_prompts:
        _report_invalid(checkpoint, args.random_prompts, args.seed)
    return 0
