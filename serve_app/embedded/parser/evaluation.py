"""Measures a parser checkpoint: held-out prompts of the grammar, and prompts written by hand.

Loads and drives the checkpoint as any Qwen3-VL: stock `from_pretrained`, the chat template, greedy `generate`.
"""

from __future__ import annotations

import argparse
import itertools
import json
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
from serve_app.entities.chat import chat_messages

CHECKPOINT_FOLDER = Path(__file__).parents[1] / "checkpoints" / "parser"
HAND_WRITTEN_PROMPTS = Path("tests/data/prompts.json")


@dataclass(frozen=True)
class Figures:
    """How well answers fit the expected entities.

    Args:
        prompts: how many were asked; at least one.
        exact: answers that are the expected list, order included.
        unreadable: answers that are no JSON array of strings; they count as empty.
        found: expected entities that were answered, by exact text.
        expected: entities expected.
        answered: entities answered.
    """

    prompts: int
    exact: int
    unreadable: int
    found: int
    expected: int
    answered: int

    @property
    def exact_rate(self) -> float:
        """Share of prompts answered with exactly the expected list, in [0, 1]."""
        return self.exact / self.prompts

    @property
    def precision(self) -> float:
        """Share of answered entities that were expected; 1 if none was answered."""
        return self.found / self.answered if self.answered else 1.0

    @property
    def recall(self) -> float:
        """Share of expected entities that were answered; 1 if none was expected."""
        return self.found / self.expected if self.expected else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 if both are 0."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0

    def __str__(self) -> str:
        """One line of a report."""
        return (
            f"{self.prompts} prompts: exact list {self.exact_rate:.3f}, precision {self.precision:.3f}, "
            f"recall {self.recall:.3f}, F1 {self.f1:.3f}, unreadable {self.unreadable}"
        )


class ParserCheckpoint:
    """A parser loaded from a folder, in float32 on the CPU.

    Args:
        folder: written by `save_pretrained`.
    """

    def __init__(self, folder: Path) -> None:
        self._model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        self._processor: Qwen3VLProcessor = AutoProcessor.from_pretrained(folder)

    def reply(self, prompt: str) -> str:
        """Return the model's answer to one prompt, as text, without the end token."""
        inputs = self._processor.apply_chat_template(
            chat_messages(prompt), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        with torch.inference_mode():
            output = self._model.generate(**inputs, do_sample=False, max_new_tokens=256)
        answer = output[0, inputs["input_ids"].shape[1] :]
        return str(self._processor.decode(answer, skip_special_tokens=True))


def read_prompts(path: Path) -> list[PromptSample]:
    """Read prompts written by hand: a JSON array of objects with `prompt` and `entities`."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [PromptSample(row["prompt"], tuple(row["entities"])) for row in rows]


def held_out_samples(count: int, seed: int) -> list[PromptSample]:
    """Draw prompts with nouns and attribute-noun pairs that training never uses."""
    return list(itertools.islice(PromptGrammar(seed, Split.HELD_OUT), count))


def head_noun(entity: str) -> str:
    """Return the last word of an entity, of "X of Y" the last of X.

    >>> head_noun("old oak tree"), head_noun("bowl of red apples")
    ('tree', 'bowl')
    """
    return entity.split(" of ")[0].split(" ")[-1]


def names_unseen_noun(sample: PromptSample, lexicon: Lexicon) -> bool:
    """Whether the head noun of an entity is no word of any noun of the training list."""
    return any(head_noun(entity) not in lexicon.training_noun_words for entity in sample.entities)


def measure(samples: Sequence[PromptSample], replies: Sequence[str]) -> Figures:
    """Compare replies with the expected entities.

    Args:
        samples: at least one.
        replies: one a sample.
    """
    answers = [_read(reply) for reply in replies]
    pairs = [(sample.entities, answer or ()) for sample, answer in zip(samples, answers, strict=True)]
    return Figures(
        prompts=len(samples),
        exact=sum(sample.entities == answer for sample, answer in zip(samples, answers, strict=True)),
        unreadable=sum(answer is None for answer in answers),
        found=sum(len(set(expected) & set(answer)) for expected, answer in pairs),
        expected=sum(len(set(expected)) for expected, _ in pairs),
        answered=sum(len(set(answer)) for _, answer in pairs),
    )


def _read(reply: str) -> tuple[str, ...] | None:
    try:
        answer = json.loads(reply)
    except json.JSONDecodeError:
        return None
    if not isinstance(answer, list) or not all(isinstance(entity, str) for entity in answer):
        return None
    return tuple(answer)


def _report(title: str, samples: Sequence[PromptSample], replies: Sequence[str]) -> None:
    print(f"{title}: {measure(samples, replies)}")


def _report_errors(samples: Iterable[PromptSample], replies: Iterable[str], count: int) -> None:
    wrong = ((sample, reply) for sample, reply in zip(samples, replies, strict=True) if _read(reply) != sample.entities)
    for sample, reply in itertools.islice(wrong, count):
        print(f"  prompt   {sample.prompt}\n  expected {answer_text(sample.entities)}\n  answer   {reply}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `run`."""
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT_FOLDER, help="folder (default: the package's)")
    parser.add_argument("--prompts", type=Path, default=HAND_WRITTEN_PROMPTS, help="prompts written by hand, JSON")
    parser.add_argument("--grammar-prompts", type=int, default=500, help="held-out prompts of the grammar; 0 for none")
    parser.add_argument("--seed", type=int, default=20_000_000_000, help="of the held-out prompts; no seed of training")
    parser.add_argument("--errors", type=int, default=0, help="wrong answers to print of each set")
    parser.add_argument("--threads", type=int, default=1)


def run(args: argparse.Namespace) -> int:
    """Evaluate a checkpoint and print the figures; returns the exit status."""
    torch.set_num_threads(args.threads)
    checkpoint = ParserCheckpoint(args.checkpoint)
    lexicon = load_lexicon()
    started = time.monotonic()
    asked = 0
    if args.grammar_prompts:
        samples = held_out_samples(args.grammar_prompts, args.seed)
        replies = [checkpoint.reply(sample.prompt) for sample in samples]
        asked += len(samples)
        _report("grammar, held out", samples, replies)
        _report_errors(samples, replies, args.errors)
    written = read_prompts(args.prompts)
    replies = [checkpoint.reply(sample.prompt) for sample in written]
    asked += len(written)
    _report("written by hand", written, replies)
    for title, unseen in (("  with a noun outside the training list", True), ("  with listed nouns only", False)):
        chosen = [index for index, sample in enumerate(written) if names_unseen_noun(sample, lexicon) is unseen]
        if chosen:
            _report(title, [written[index] for index in chosen], [replies[index] for index in chosen])
    _report_errors(written, replies, args.errors)
    print(f"{(time.monotonic() - started) / asked * 1000:.0f} ms a prompt on {args.threads} thread(s)")
    return 0
