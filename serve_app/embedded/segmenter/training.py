"""Trains the embedded segmenter on synthetic scenes, on a CPU or a GPU. A stopped run can be continued."""

import argparse
import math
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain
from multiprocessing import parent_process
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import distributed, nn
from torch.multiprocessing.spawn import spawn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import Sam3Model, Sam3Processor
from transformers.models.sam3.modeling_sam3 import inverse_sigmoid

from serve_app.embedded.cpu_tuning import fast_dtype, keep_freed_memory
from serve_app.embedded.muon_adamw import MuonAdamW
from serve_app.embedded.runs import RunLog, add_run_options, load_state, save_state
from serve_app.embedded.schedule import schedule
from serve_app.embedded.segmenter.data import SceneBatch, SceneBatches, loaded
from serve_app.embedded.segmenter.glyphs import sprites_for_command
from serve_app.embedded.segmenter.loss import LossWeights, SegmenterOutput, segmenter_loss
from serve_app.embedded.segmenter.model import CHECKPOINT_DIR, DETECTOR_WIDTH, build_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the segmenter's training."""
    add_run_options(
        parser,
        output=CHECKPOINT_DIR,
        state=Path("runs/segmenter.pt"),
        steps=10000,
        save_every=250,
        peak_rate=8e-4,
        warmup=150,
        average_decay=0.998,
    )
    parser.add_argument("--scenes", type=int, default=8, help="scenes in a step, for each training process")
    parser.add_argument("--phrases", type=int, default=4, help="phrases for each scene")
    parser.add_argument("--mask-scenes", type=int, default=2, help="scenes of a step that train the masks, too")
    parser.add_argument(
        "--matched-weight", type=float, default=LossWeights.matched, help="focal loss weight of queries with an object"
    )
    parser.add_argument("--l1-weight", type=float, default=LossWeights.l1, help="loss weight of the boxes' L1 distance")
    parser.add_argument("--giou-weight", type=float, default=LossWeights.giou, help="loss weight of the boxes' GIoU")
    parser.add_argument(
        "--patch-boxes",
        type=float,
        default=LossWeights.patch_boxes,
        help="factor of both box weights for the boxes that are predicted from patches; 0: no such loss",
    )
    parser.add_argument("--part", default="", help="train only parameters whose names start with this; default: all")
    parser.add_argument(
        "--replicas", type=int, default=2, help="training processes of one thread each; best: one per core, 1 on a GPU"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        help="processes per training process that draw scenes; 0: it draws them itself",
    )


def run(args: argparse.Namespace) -> int:
    """Train the model, or continue a stopped run, and write the checkpoint.

    Returns:
        The exit status, 0.
    """
    with tempfile.TemporaryDirectory() as folder:
        spawn(_run_replica, args=(args, f"file://{folder}/rendezvous"), nprocs=args.replicas)
    return 0


def _run_replica(rank: int, args: argparse.Namespace, rendezvous: str) -> None:
    """Run one of the `args.replicas` training processes. They average their gradients at every step."""
    # One thread per process: at these sizes, two threads on one batch mostly wait for each other.
    torch.set_num_threads(1)
    keep_freed_memory()
    torch.manual_seed(args.seed)
    distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=args.replicas)
    model, processor = build_model(args.warm_start)
    batches = SceneBatches(
        sprites_for_command(args.font),
        processor.tokenizer,
        seed=args.seed,
        num_scenes=args.scenes,
        num_phrases=args.phrases,
        num_mask_scenes=args.mask_scenes,
    )
    training = SegmenterTraining(model, args)
    for line in training.train(batches):
        if rank == 0:
            print(line, flush=True)
    if rank == 0 and training.step >= args.steps:
        save_checkpoint(training.average.module, processor, args.output)
    distributed.destroy_process_group()


class SegmenterTraining:
    """A training run: the model, its averaged weights, its optimizer and the number of steps done.

    Args:
        model: moved to `args.device`.
        args: the options of `add_arguments`. If the file `args.state` exists, the run continues from it.
    """

    def __init__(self, model: Sam3Model, args: argparse.Namespace) -> None:
        self._args = args
        self._weights = LossWeights(
            matched=args.matched_weight, l1=args.l1_weight, giou=args.giou_weight, patch_boxes=args.patch_boxes
        )
        # In this memory layout, convolutions and norms of the finest maps take a third of the time.
        model.vision_encoder.neck.to(memory_format=torch.channels_last)
        model.mask_decoder.to(memory_format=torch.channels_last)
        model.to(args.device)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(args.part))
        self._model = model.train()
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(args.average_decay), use_buffers=False)
        self._patch_boxes = PatchBoxHead().to(args.device)
        named = chain(model.named_parameters(), self._patch_boxes.named_parameters("patch_boxes"))
        self._trained = {name: parameter for name, parameter in named if parameter.requires_grad}
        self._optimizer = MuonAdamW(self._trained.items())
        self.step = 0
        if args.state.exists():
            self._load()

    def train(self, batches: SceneBatches) -> Iterator[str]:
        """Train up to the last step, save the state on the way, and yield the lines of the log.

        Each training process uses its own batches.
        """
        rank, replicas = distributed.get_rank(), distributed.get_world_size()
        log = RunLog(self.step, self._args.steps)
        parent = parent_process()
        numbers = range(self.step * replicas + rank, self._args.steps * replicas, replicas)
        for batch in loaded(batches, numbers, self._args.workers):
            # A training process outlives a killed parent. It must stop, or a new run would write the same state file.
            if parent is not None and not parent.is_alive():
                return
            figures = self._train_step(batch.to(self._args.device))
            self.step += 1
            if rank == 0 and (self.step % self._args.save_every == 0 or self.step == self._args.steps):
                self._save()
            yield from log.lines(self.step, figures)

    def _train_step(self, batch: SceneBatch) -> dict[str, float]:
        dtype = fast_dtype(self._args.device)
        with torch.autocast(self._args.device, dtype=dtype, enabled=dtype is not torch.float32):
            output = forward(self._model, batch, self._patch_boxes)
        loss, log = segmenter_loss(output, batch, self._weights)
        self._optimizer.zero_grad()
        loss.backward()
        average_gradients(self._trained.values())
        nn.utils.clip_grad_norm_(self._trained.values(), 1.0)
        self._optimizer.step(self._args.peak_rate * schedule(self.step, self._args.warmup, self._args.steps))
        self.average.update_parameters(self._model)
        return log | {"loss": loss.item()}

    def _save(self) -> None:
        state = {
            "step": self.step,
            "model": self._model.state_dict(),
            "average": self.average.state_dict(),
            "patch_boxes": self._patch_boxes.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        save_state(state, self._args.state)

    def _load(self) -> None:
        state = load_state(self._args.state, self._args.device)
        self._model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self._patch_boxes.load_state_dict(state["patch_boxes"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


class PatchBoxHead(nn.Module):
    """Predicts a box from each encoded patch of a picture. Only training uses it; checkpoints do not contain it."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(DETECTOR_WIDTH, DETECTOR_WIDTH)
        self.output = nn.Linear(DETECTOR_WIDTH, 4)
        # At the start, softplus gives boxes with a fifth of the picture's width and height.
        nn.init.zeros_(self.output.bias[:2])
        nn.init.constant_(self.output.bias[2:], -1.5)

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        """Predict boxes.

        Args:
            encoded: (N, G * G, DETECTOR_WIDTH), the encoded patches, row by row.

        Returns:
            (N, G * G, 4) float32 cxcywh, relative to the picture; may lie outside [0, 1].
        """
        side = math.isqrt(encoded.shape[1])
        middles = (torch.arange(side, device=encoded.device) + 0.5) / side
        centres = torch.stack([middles.repeat(side), middles.repeat_interleave(side)], -1)
        shift, size = self.output(F.relu(self.hidden(encoded))).float().split(2, -1)
        return torch.cat([centres + shift, F.softplus(size)], -1)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient with its mean over the training processes. Skip parameters without a gradient."""
    if distributed.get_world_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def forward(model: Sam3Model, batch: SceneBatch, patch_boxes: PatchBoxHead) -> SegmenterOutput:
    """Compute what the model's own forward computes, with less work.

    Each scene goes through the vision encoder once for all of its phrases, and only the phrases of `batch.masks` get
    masks.

    Args:
        model: the segmenter.
        batch: the scenes and phrases, on the model's device.
        patch_boxes: predicts boxes from the encoder's output, for the loss.
    """
    num_phrases, num_masks = len(batch.counts) // len(batch.pixels), len(batch.masks)
    patches = model.vision_encoder.backbone(batch.pixels.float() / 127.5 - 1).last_hidden_state
    side = math.isqrt(patches.shape[1])
    patches = patches.view(len(patches), side, side, -1).permute(0, 3, 1, 2)
    neck = model.vision_encoder.neck
    # Only the masks need the finer levels. The model never uses the coarsest one.
    *finer, detection, _coarsest = neck.fpn_layers
    coarse = detection(patches)
    position = neck.position_encoding(coarse.shape, coarse.device, coarse.dtype)
    text_mask = batch.attention_mask.bool()
    text = model.get_text_features(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, return_dict=True
    ).pooler_output
    encoded = model.detr_encoder(
        vision_features=[coarse.repeat_interleave(num_phrases, 0)],
        text_features=text,
        vision_pos_embeds=[position.repeat_interleave(num_phrases, 0)],
        text_mask=text_mask,
    )
    decoded = model.detr_decoder(
        vision_features=encoded.last_hidden_state,
        text_features=encoded.text_features,
        vision_pos_encoding=encoded.pos_embeds_flattened,
        text_mask=text_mask,
        spatial_shapes=encoded.spatial_shapes,
    )
    hidden = decoded.intermediate_hidden_states
    boxes = (inverse_sigmoid(decoded.reference_boxes) + model.detr_decoder.box_head(hidden)).sigmoid()
    logits = model.dot_product_scoring(
        decoder_hidden_states=hidden, text_features=encoded.text_features, text_mask=text_mask
    )
    with_masks = patches[: num_masks // num_phrases]
    levels = [layer(with_masks) for layer in finer] + [coarse[: num_masks // num_phrases]]
    masks = model.mask_decoder(
        decoder_queries=hidden[-1][:num_masks],
        backbone_features=[level.repeat_interleave(num_phrases, 0) for level in levels],
        encoder_hidden_states=encoded.last_hidden_state[:num_masks],
        prompt_features=text[:num_masks],
        prompt_mask=text_mask[:num_masks],
    )
    return SegmenterOutput(
        logits=logits.squeeze(-1).float(),
        boxes=boxes.float(),
        presence_logits=decoded.presence_logits.squeeze(-1).float(),
        mask_logits=masks.pred_masks.float(),
        semantic_logits=masks.semantic_seg.float()[:, 0],
        patch_boxes=patch_boxes(encoded.last_hidden_state),
    )


def save_checkpoint(model: Sam3Model, processor: Sam3Processor, folder: Path) -> None:
    """Write the model, in half precision, and its processor. Stock `from_pretrained` loads them.

    Args:
        model: cast to half precision in place.
        processor: saved beside the weights.
        folder: the checkpoint folder; files in it are replaced.
    """
    model.half().save_pretrained(folder)
    processor.save_pretrained(folder)
