"""Defines what the training commands share: options, the file that a run resumes from, and the lines of the log."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch.optim.optimizer import StateDict

LOG_EVERY = 20
"""Steps between two lines of the log."""

LOG_DECAY = 0.98
"""Weight of the earlier steps in the figures of the log, which are moving averages."""


def add_run_options(
    parser: argparse.ArgumentParser,
    *,
    output: Path,
    state: Path,
    steps: int,
    save_every: int,
    peak_rate: float,
    warmup: int,
    average_decay: float,
) -> None:
    """Declare the options that the trainings of the segmenter and of the identity model share.

    Args:
        parser: gets the options.
        output: default of `--output`; the other arguments are defaults, too.
        state: default of `--state`.
        steps: default of `--steps`.
        save_every: default of `--save-every`.
        peak_rate: default of `--peak-rate`.
        warmup: default of `--warmup`.
        average_decay: default of `--average-decay`.
    """
    parser.add_argument("--steps", type=int, default=steps, help="steps of the whole run; the learning rate ends at 0")
    parser.add_argument("--seed", type=int, default=0, help="seed of the data and of random weights")
    parser.add_argument("--warm-start", type=Path, help="checkpoint folder to start from; default: random weights")
    parser.add_argument("--output", type=Path, default=output, help="folder for the trained checkpoint")
    parser.add_argument("--state", type=Path, default=state, help="file that a stopped run continues from")
    parser.add_argument("--save-every", type=int, default=save_every, help="steps between two saves of that file")
    parser.add_argument("--peak-rate", type=float, default=peak_rate, help="highest learning rate")
    parser.add_argument("--warmup", type=int, default=warmup, help="steps until the learning rate reaches its peak")
    parser.add_argument(
        "--average-decay", type=float, default=average_decay, help="decay of the averaged weights, which are saved"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="device that trains")
    parser.add_argument("--font", type=Path, help="path of NotoColorEmoji.ttf; default: search the usual folders")


def save_state(state: StateDict, file: Path) -> None:
    """Write the state of a run. If the process is killed meanwhile, the file keeps the earlier state.

    Args:
        state: values that `load_state` can read: tensors, numbers, texts, and lists and dictionaries of them.
        file: replaced if it exists; its folder is created if it does not exist.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".part")
    torch.save(state, unfinished)
    unfinished.replace(file)


def load_state(file: Path, device: str) -> StateDict:
    """Read the state of a run that `save_state` wrote, with its tensors on a device."""
    state: StateDict = torch.load(file, weights_only=True, map_location=device)
    return state


class RunLog:
    """Writes the lines of a run's log.

    Args:
        first_step: number of steps that earlier runs have done.
        steps: steps of the whole run.
    """

    def __init__(self, first_step: int, steps: int) -> None:
        self._first_step, self._steps = first_step, steps
        self._started = time.monotonic()
        self._averages: dict[str, float] = {}

    def lines(self, step: int, figures: Mapping[str, float]) -> Iterator[str]:
        """Take the figures of a step; yield a line at every LOG_EVERY-th step.

        Args:
            step: number of steps that are done, this one included.
            figures: values of this step, by name.
        """
        for name, value in figures.items():
            self._averages[name] = LOG_DECAY * self._averages.get(name, value) + (1 - LOG_DECAY) * value
        if step % LOG_EVERY == 0:
            rate = (step - self._first_step) / (time.monotonic() - self._started)
            averages = " ".join(f"{name}={value:.3f}" for name, value in self._averages.items())
            yield f"step {step}/{self._steps} {rate:.2f} steps/s {averages}"
