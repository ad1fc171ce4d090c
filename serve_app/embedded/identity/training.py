"""Trains the embedded identity model by contrast, on a CPU or a GPU, resumably.

Two views of one individual shall be alike; the other individuals of a batch, other colours of the same sprite and other
sprites of a like kind among them, shall not. `python -m serve_app.embedded.train identity --help` lists the options.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset
from transformers import Dinov2Model

from serve_app.embedded.cpu_tuning import fast_dtype, keep_freed_memory
from serve_app.embedded.identity.model import CHECKPOINT_DIR, SIDE, build_model, build_processor, embed
from serve_app.embedded.identity.sprites import Individual, load_individuals
from serve_app.embedded.identity.views import make_view
from serve_app.embedded.muon_adamw import MuonAdamW
from serve_app.embedded.schedule import schedule
from serve_app.embedded.segmenter.glyphs import find_font

LOG_EVERY = 20
LOG_DECAY = 0.98
VIEWS = 2
"""Of each individual in a batch."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the identity model's training."""
    parser.add_argument("--steps", type=int, default=4000, help="length of the whole run; the rate falls to 0 at it")
    parser.add_argument("--seed", type=int, default=0, help="of the data and of fresh weights")
    parser.add_argument("--warm-start", type=Path, help="start from this checkpoint folder; default: random weights")
    parser.add_argument("--output", type=Path, default=CHECKPOINT_DIR, help="where the checkpoint folder goes")
    parser.add_argument("--state", type=Path, default=Path("runs/identity.pt"), help="file that a run resumes from")
    parser.add_argument("--save-every", type=int, default=200, help="steps between saves of the state")
    parser.add_argument("--peak-rate", type=float, default=1e-3, help="largest learning rate")
    parser.add_argument("--warmup", type=int, default=100, help="steps until the rate is at its peak")
    parser.add_argument("--average-decay", type=float, default=0.995, help="of the averaged weights that are kept")
    parser.add_argument("--groups", type=int, default=12, help="groups of four individuals that are alike, a step")
    parser.add_argument("--temperature", type=float, default=0.1, help="of the cosines in the loss")
    parser.add_argument("--threads", type=int, default=2, help="of the arithmetic")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workers", type=int, default=1, help="processes that make the views")
    parser.add_argument("--font", type=Path, help="NotoColorEmoji.ttf; searched if not given")


def run(args: argparse.Namespace) -> int:
    """Train, or go on training, and write the checkpoint.

    Returns:
        The exit status, 0.
    """
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    torch.manual_seed(args.seed)
    model = Dinov2Model.from_pretrained(args.warm_start, dtype=torch.float32) if args.warm_start else build_model()
    batches = ContrastBatches(load_individuals(find_font(args.font), "train"), args.seed, args.groups)
    training = IdentityTraining(model.to(args.device), args)
    training.train(batches)
    save_checkpoint(training.average.module, args.output)
    return 0


def save_checkpoint(model: Dinov2Model, folder: Path) -> None:
    """Write the model in half precision and the processor, as the stock classes load them."""
    model.half().save_pretrained(folder)
    build_processor().save_pretrained(folder)


class ContrastBatches(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Batches of views: groups of individuals that are hard to tell apart.

    Args:
        individuals: of the training split.
        seed: batch `i` is the same for the same seed.
        groups: of four individuals each, in a batch.
    """

    def __init__(self, individuals: Sequence[Individual], seed: int, groups: int) -> None:
        self._individuals = individuals
        self._seed = seed
        self._groups = groups
        self._by_kind: dict[str, dict[str, list[int]]] = {}
        for place, each in enumerate(individuals):
            self._by_kind.setdefault(each.kind, {}).setdefault(each.glyph, []).append(place)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Make a batch: crops (N, 3, SIDE, SIDE) uint8, and which individual each shows (N,) int64."""
        rng = np.random.default_rng((self._seed, index))
        chosen = [place for _ in range(self._groups) for place in self._group(rng)]
        places = [place for place in dict.fromkeys(chosen) for _ in range(VIEWS)]
        views = [make_view(rng, self._individuals[place].picture, SIDE) for place in places]
        return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2), torch.tensor(places)

    def _group(self, rng: np.random.Generator) -> list[int]:
        """Choose two sprites of one kind, each in up to two colours, the same for both where both have them."""
        kinds = list(self._by_kind)
        glyphs = self._by_kind[kinds[rng.integers(len(kinds))]]
        names = rng.permutation(list(glyphs))[:2]
        first = [glyphs[names[0]][i] for i in rng.permutation(len(glyphs[names[0]]))[:2]]
        wanted = {self._individuals[place].hue for place in first}
        second = glyphs[names[-1]]
        same = [place for place in second if self._individuals[place].hue in wanted]
        rest = [second[i] for i in rng.permutation(len(second)) if second[i] not in same]
        return [*first, *(same + rest)[:2]]


class IdentityTraining:
    """A run: the model, its optimizer, its averaged weights and where it stands."""

    def __init__(self, model: Dinov2Model, args: argparse.Namespace) -> None:
        """Start a run, or take up the one in `args.state` if that file is there."""
        self._args = args
        self._model = model.train()
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(args.average_decay), use_buffers=False)
        self._optimizer = MuonAdamW(self._model.named_parameters())
        self.step = 0
        if args.state.exists():
            self._load()

    def train(self, batches: ContrastBatches) -> None:
        """Train to the last step; prints a line for the log now and then."""
        smooth: dict[str, float] = {}
        started, first_step = time.monotonic(), self.step
        numbers, device = range(self.step, self._args.steps), self._args.device
        for crops, who in DataLoader(batches, batch_size=None, sampler=numbers, num_workers=self._args.workers):
            for name, value in self._train_step(crops.to(device), who.to(device)).items():
                smooth[name] = LOG_DECAY * smooth.get(name, value) + (1 - LOG_DECAY) * value
            self.step += 1
            if self.step % self._args.save_every == 0 or self.step == self._args.steps:
                self._save()
            if self.step % LOG_EVERY == 0:
                rate = (self.step - first_step) / (time.monotonic() - started)
                figures = " ".join(f"{name}={value:.3f}" for name, value in smooth.items())
                print(f"step {self.step}/{self._args.steps} {rate:.2f} steps/s {figures}", flush=True)

    def _train_step(self, crops: torch.Tensor, who: torch.Tensor) -> dict[str, float]:
        dtype = fast_dtype(self._args.device)
        with torch.autocast(self._args.device, dtype=dtype, enabled=dtype is not torch.float32):
            embeddings = embed(self._model, crops)
        loss = contrastive_loss(embeddings, who, self._args.temperature)
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step(self._args.peak_rate * schedule(self.step, self._args.warmup, self._args.steps))
        self.average.update_parameters(self._model)
        return {"loss": loss.item(), "nearest_is_same": nearest_is_same(embeddings.detach(), who)}

    def _save(self) -> None:
        state = {
            "step": self.step,
            "model": self._model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        self._args.state.parent.mkdir(parents=True, exist_ok=True)
        # A rename is all or nothing: a run that is killed while it saves still has the state before.
        unfinished = self._args.state.with_suffix(".part")
        torch.save(state, unfinished)
        unfinished.replace(self._args.state)

    def _load(self) -> None:
        state = torch.load(self._args.state, weights_only=True, map_location=self._args.device)
        self._model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def contrastive_loss(embeddings: torch.Tensor, who: torch.Tensor, temperature: float) -> torch.Tensor:
    """Compare each view with all others of the batch: those of the same individual shall be nearest.

    Args:
        embeddings: (N, D) of length 1.
        who: (N,) which individual each shows; each occurs at least twice.
        temperature: of the cosines.

    Returns:
        A scalar. Source: Khosla et al., "Supervised Contrastive Learning", equation 2.
    """
    itself = torch.eye(len(who), dtype=torch.bool, device=who.device)
    logits = (embeddings @ embeddings.T / temperature).masked_fill(itself, -math.inf)
    same = (who[:, None] == who[None]) & ~itself
    log_shares = F.log_softmax(logits, dim=1).masked_fill(~same, 0.0)
    return -(log_shares.sum(1) / same.sum(1)).mean()


def nearest_is_same(embeddings: torch.Tensor, who: torch.Tensor) -> float:
    """Return how often the nearest other view of a batch shows the same individual."""
    cosines = (embeddings @ embeddings.T).fill_diagonal_(-2.0)
    return float((who[cosines.argmax(1)] == who).float().mean())
