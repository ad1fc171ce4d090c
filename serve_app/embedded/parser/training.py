"""Trains the embedded parser (tokenizer, model and chat template) on prompts of the grammar. Runs can be continued.

The data of a step depend on the seed and the step's number only, so a continued run gets the same data as an
uninterrupted one. A run from random weights starts with short prompts, which are fast and teach copying, and ends with
prompts of any length. A run from a checkpoint uses all lengths from the start, because it would forget long prompts.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from transformers import Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from serve_app.embedded.cpu_tuning import fast_dtype
from serve_app.embedded.muon_adamw import MuonAdamW
from serve_app.embedded.parser.batches import BatchChunks, ChatEncoder, batches, parts
from serve_app.embedded.parser.checkpoint import (
    answer_text,
    build_model,
    build_processor,
    renew_processor,
    save_checkpoint,
    train_tokenizer,
)
from serve_app.embedded.parser.forward import Batch, answer_logits
from serve_app.embedded.parser.grammar import PromptGrammar
from serve_app.embedded.parser.growth import grow
from serve_app.embedded.parser.rare_tokens import RareTokens
from serve_app.embedded.runs import load_state, save_state

CHECKPOINT_FOLDER = Path(__file__).parents[1] / "checkpoints" / "parser"
LONGEST_SAMPLE = 448
"""Largest number of tokens of a sample after the shared prefix: about 120 words and 20 entities."""
_MOST_TOKENS = {"cpu": 4096, "cuda": 65536}
"""Largest number of tokens, padding included, in one forward pass, by device. Long samples take several passes."""
_LENGTH_LIMITS = ((0.15, 36), (0.5, 64))
"""For a run from random weights: pairs of a share of its steps, and the longest sample in tokens up to that share."""
_TOKENIZER_SAMPLES = 30_000
"""Samples from which the tokenizer is trained."""
_STATE_FILE = "state.pt"


def rising_length_limit(step: int, steps: int) -> int:
    """Return the largest number of tokens of a sample, at a step of a run from random weights.

    >>> rising_length_limit(0, 100), rising_length_limit(20, 100), rising_length_limit(50, 100)
    (36, 64, 448)
    """
    return next((limit for until, limit in _LENGTH_LIMITS if step < until * steps), LONGEST_SAMPLE)


def learning_rate(step: int, steps: int, peak: float, warmup: int = 200) -> float:
    """Return the learning rate of a step: a linear warm-up, then a cosine down to a hundredth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


class ParserTrainer:
    """A training run with its state on disk.

    Args:
        run_folder: folder for the tokenizer and the state. If it contains a state, the run continues from it.
        seed: seed of the weights and the data.
        vocabulary_size: size of the tokenizer's vocabulary, for a run from random weights.
        hidden_size: width of the model, for a run from random weights.
        layers: number of layers.
        key_heads: key and value heads of each layer.
        warm_start: checkpoint folder that gives the tokenizer and the weights, grown to `layers` and `key_heads`; None
            means random weights.
        device: `cpu` or `cuda`.

    Raises:
        ValueError: the checkpoint cannot be grown to these sizes.
    """

    def __init__(
        self,
        run_folder: Path,
        seed: int,
        vocabulary_size: int,
        hidden_size: int,
        layers: int,
        key_heads: int,
        warm_start: Path | None = None,
        device: str = "cpu",
    ) -> None:
        torch.manual_seed(seed)
        self._device = device
        self._seed = seed
        self._run_folder = run_folder
        self._warm_start = warm_start is not None
        self.processor = self._load_or_make_processor(vocabulary_size, warm_start)
        self.model = (
            build_model(len(self.processor.tokenizer), hidden_size, layers, key_heads)
            if warm_start is None
            else grow(
                Qwen3VLForConditionalGeneration.from_pretrained(warm_start, dtype=torch.float32), layers, key_heads
            )
        )
        self.model.to(device)
        self.encoder = ChatEncoder(self.processor)
        self.step = 0
        text_model = self.model.model.language_model
        self._trained = [*text_model.parameters()]
        self._optimizer = MuonAdamW(text_model.named_parameters(), weight_decay=0.02)
        self._average = [parameter.detach().clone() for parameter in self._trained]
        state_file = run_folder / _STATE_FILE
        if state_file.exists():
            state = load_state(state_file, device)
            self.model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._average = state["average"]
            self.step = state["step"]
            print(f"continued from step {self.step}", flush=True)

    def _load_or_make_processor(self, vocabulary_size: int, warm_start: Path | None) -> Qwen3VLProcessor:
        folder = self._run_folder / "processor"
        known = folder if folder.exists() else warm_start
        if known is not None:
            return renew_processor(Qwen3VLProcessor.from_pretrained(known))
        processor = build_processor(train_tokenizer(_tokenizer_texts(self._seed), vocabulary_size))
        processor.save_pretrained(folder)
        return processor

    def train(
        self,
        steps: int,
        batch_size: int,
        peak_rate: float,
        report_every: int,
        save_every: int,
        out: Path,
        workers: int = 0,
    ) -> None:
        """Train up to a number of steps, print the mean loss, and save state and checkpoint on the way and at the end.

        Args:
            steps: steps of the whole run. The learning rate reaches its lowest value there.
            batch_size: samples in a step.
            peak_rate: highest learning rate.
            report_every: steps between two log lines.
            save_every: steps between two saves of state and checkpoint.
            out: folder for the checkpoint.
            workers: processes that make the batches; 0 makes them in this process.
        """
        self.model.train()
        started, since = time.monotonic(), self.step
        total, count = torch.zeros((), device=self._device), 0
        pad_id = self.processor.tokenizer.pad_token_id
        rare_tokens = RareTokens(self.processor.tokenizer, self._seed)

        def length_limit(step: int) -> int:
            return LONGEST_SAMPLE if self._warm_start else rising_length_limit(step, steps)

        chunks = BatchChunks(self.encoder, rare_tokens, self._seed, batch_size, pad_id, length_limit)
        stream = batches(chunks, self.step, workers)
        while self.step < steps:
            rate = learning_rate(self.step, steps, peak_rate)
            total += self._train_step(next(stream), rate)
            count += 1
            self.step += 1
            if self.step % report_every == 0:
                speed = (time.monotonic() - started) / (self.step - since)
                print(f"step {self.step} loss {total / count:.4f} rate {rate:.2e} {speed:.3f} s/step", flush=True)
                total, count = torch.zeros((), device=self._device), 0
            if self.step % save_every == 0 or self.step == steps:
                self._save_state()
                self.save_average(out)

    def _train_step(self, batch: Batch, rate: float) -> torch.Tensor:
        self._optimizer.zero_grad()
        learnt, total = int(batch.is_answer.sum()), torch.zeros((), device=self._device)
        for part in parts(batch, _MOST_TOKENS[self._device]):
            here = Batch(part.input_ids.to(self._device), part.is_answer.to(self._device))
            logits = answer_logits(self.model, self.encoder.prefix_ids, here, fast_dtype(self._device))
            loss = nn.functional.cross_entropy(logits.float(), here.input_ids[here.is_answer], reduction="sum") / learnt
            loss.backward()
            total += loss.detach()
        nn.utils.clip_grad_norm_(self._trained, 1.0)
        self._optimizer.step(rate)
        # The average covers few steps at first, and about the last 200 later.
        decay = min(0.995, (1 + self.step) / (20 + self.step))
        torch._foreach_lerp_(self._average, [parameter.detach() for parameter in self._trained], 1 - decay)
        return total

    def _save_state(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": self._average,
            "step": self.step,
        }
        save_state(state, self._run_folder / _STATE_FILE)

    def save_average(self, out: Path) -> None:
        """Write a checkpoint with the averaged weights to a folder."""
        current = [parameter.detach().clone() for parameter in self._trained]
        with torch.no_grad():
            torch._foreach_copy_(self._trained, self._average)
            save_checkpoint(self.model, self.processor, out)
            torch._foreach_copy_(self._trained, current)


def _tokenizer_texts(seed: int) -> Iterator[str]:
    """Yield prompts and answers, and sometimes the words of the chat format."""
    for index, sample in enumerate(itertools.islice(PromptGrammar(seed), _TOKENIZER_SAMPLES)):
        yield sample.prompt
        yield answer_text(sample.entities)
        if index % 100 == 0:
            yield "system\nuser\nassistant\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the parser's training."""
    parser.add_argument("--out", type=Path, default=CHECKPOINT_FOLDER, help="folder for the trained checkpoint")
    parser.add_argument(
        "--run-folder",
        type=Path,
        default=Path("runs/parser"),
        help="folder of the state that a stopped run continues from",
    )
    parser.add_argument("--steps", type=int, default=10000, help="steps of the whole run, those already done included")
    parser.add_argument("--warm-start", type=Path, help="checkpoint folder to start from; default: random weights")
    parser.add_argument("--batch-size", type=int, default=32, help="prompts in a step")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3, help="highest learning rate")
    parser.add_argument(
        "--vocabulary-size", type=int, default=3200, help="tokens of the vocabulary, for a run from random weights"
    )
    parser.add_argument(
        "--hidden-size", type=int, default=192, help="width of the model, for a run from random weights"
    )
    parser.add_argument("--layers", type=int, default=6, help="number of layers; smaller checkpoints are grown to it")
    parser.add_argument(
        "--key-heads", type=int, default=6, help="key and value heads of a layer; smaller checkpoints are grown to it"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the data and of random weights")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch on the CPU")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="device that trains")
    parser.add_argument(
        "--workers", type=int, default=0, help="processes that make the batches; 0: the training process makes them"
    )
    parser.add_argument("--report-every", type=int, default=100, help="steps between two lines of the log")
    parser.add_argument("--save-every", type=int, default=500, help="steps between two saves of state and checkpoint")


def run(args: argparse.Namespace) -> int:
    """Train the model, or continue a stopped run, and write the checkpoint to `args.out`.

    Returns:
        The exit status, 0.
    """
    torch.set_num_threads(args.threads)
    args.run_folder.mkdir(parents=True, exist_ok=True)
    trainer = ParserTrainer(
        args.run_folder,
        args.seed,
        args.vocabulary_size,
        args.hidden_size,
        args.layers,
        args.key_heads,
        args.warm_start,
        args.device,
    )
    trainer.train(
        args.steps, args.batch_size, args.learning_rate, args.report_every, args.save_every, args.out, args.workers
    )
    return 0
