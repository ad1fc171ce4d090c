"""Trains the embedded identity model with a contrastive loss, on a CPU or a GPU. A stopped run can be continued.

The loss makes the embeddings of two views of one individual similar, and those of different individuals dissimilar. A
batch contains individuals that are hard to tell apart: one sprite in several colours, and sprites of one kind.
"""

from __future__ import annotations

import argparse
import math
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
from serve_app.embedded.runs import RunLog, add_run_options, load_state, save_state
from serve_app.embedded.schedule import schedule
from serve_app.embedded.segmenter.glyphs import find_font

VIEWS = 2
"""Views of each individual in a batch."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the identity model's training."""
    add_run_options(
        parser,
        output=CHECKPOINT_DIR,
        state=Path("runs/identity.pt"),
        steps=4000,
        save_every=200,
        peak_rate=1e-3,
        warmup=100,
        average_decay=0.995,
    )
    parser.add_argument("--groups", type=int, default=12, help="groups in a step, of up to four similar individuals")
    parser.add_argument("--temperature", type=float, default=0.1, help="divides the cosines in the loss")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch on the CPU")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw the views")


def run(args: argparse.Namespace) -> int:
    """Train the model, or continue a stopped run, and write the checkpoint.

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
    """Write the model, in half precision, and its processor. Stock `from_pretrained` loads them.

    Args:
        model: cast to half precision in place.
        folder: the checkpoint folder; files in it are replaced.
    """
    model.half().save_pretrained(folder)
    build_processor().save_pretrained(folder)


class ContrastBatches(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Batches of views, in groups of individuals that are hard to tell apart.

    Args:
        individuals: those of the training split.
        seed: seed of the data. Batch `i` depends on the seed and on `i` only.
        groups: number of groups in a batch, of up to four individuals each.
    """

    def __init__(self, individuals: Sequence[Individual], seed: int, groups: int) -> None:
        self._individuals = individuals
        self._seed = seed
        self._groups = groups
        self._by_kind: dict[str, dict[str, list[int]]] = {}
        for place, each in enumerate(individuals):
            self._by_kind.setdefault(each.kind, {}).setdefault(each.glyph, []).append(place)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a batch: crops (N, 3, SIDE, SIDE) uint8 RGB, and the individual that each shows, (N,) int64."""
        rng = np.random.default_rng((self._seed, index))
        chosen = [place for _ in range(self._groups) for place in self._group(rng)]
        places = [place for place in dict.fromkeys(chosen) for _ in range(VIEWS)]
        views = [make_view(rng, self._individuals[place].picture, SIDE) for place in places]
        return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2), torch.tensor(places)

    def _group(self, rng: np.random.Generator) -> list[int]:
        """Choose two sprites of one kind, each in up to two colours; if possible, in the same colours."""
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
    """A training run: the model, its averaged weights, its optimizer and the number of steps done.

    Args:
        model: on its device.
        args: the options of `add_arguments`. If the file `args.state` exists, the run continues from it.
    """

    def __init__(self, model: Dinov2Model, args: argparse.Namespace) -> None:
        self._args = args
        self._model = model.train()
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(args.average_decay), use_buffers=False)
        self._optimizer = MuonAdamW(self._model.named_parameters())
        self.step = 0
        if args.state.exists():
            self._load()

    def train(self, batches: ContrastBatches) -> None:
        """Train up to the last step, print the log and save the state on the way."""
        log = RunLog(self.step, self._args.steps)
        numbers, device = range(self.step, self._args.steps), self._args.device
        for crops, who in DataLoader(batches, batch_size=None, sampler=numbers, num_workers=self._args.workers):
            figures = self._train_step(crops.to(device), who.to(device))
            self.step += 1
            if self.step % self._args.save_every == 0 or self.step == self._args.steps:
                self._save()
            for line in log.lines(self.step, figures):
                print(line, flush=True)

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
        save_state(state, self._args.state)

    def _load(self) -> None:
        state = load_state(self._args.state, self._args.device)
        self._model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def contrastive_loss(embeddings: torch.Tensor, who: torch.Tensor, temperature: float) -> torch.Tensor:
    """Compute the supervised contrastive loss. It is low if views of the same individual are nearest to each other.

    Source: Khosla et al., "Supervised Contrastive Learning" (arXiv 2004.11362), equation 2.

    Args:
        embeddings: (N, D) float32, rows with L2 norm 1.
        who: (N,) int64, the individual of each view; each individual has at least two views.
        temperature: divides the cosines; above 0.

    Returns:
        A scalar.
    """
    itself = torch.eye(len(who), dtype=torch.bool, device=who.device)
    logits = (embeddings @ embeddings.T / temperature).masked_fill(itself, -math.inf)
    same = (who[:, None] == who[None]) & ~itself
    log_shares = F.log_softmax(logits, dim=1).masked_fill(~same, 0.0)
    return -(log_shares.sum(1) / same.sum(1)).mean()


def nearest_is_same(embeddings: torch.Tensor, who: torch.Tensor) -> float:
    """Return the share of views whose nearest other view shows the same individual, in [0, 1].

    Args:
        embeddings: (N, D), rows with L2 norm 1.
        who: (N,) int64, the individual of each view.
    """
    cosines = (embeddings @ embeddings.T).fill_diagonal_(-2.0)
    return float((who[cosines.argmax(1)] == who).float().mean())
