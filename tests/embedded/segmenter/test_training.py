import argparse
from pathlib import Path

import pytest
import torch
from torch import distributed
from transformers import Sam3Model, Sam3Processor

from serve_app.embedded.schedule import schedule
from serve_app.embedded.segmenter.data import SceneBatch, SceneBatches, patch_owners
from serve_app.embedded.segmenter.glyphs import SpriteLibrary
from serve_app.embedded.segmenter.model import build_model, build_processor, build_tokenizer

pytest.importorskip("scipy", reason="the extra `train` is not installed")
from serve_app.embedded.segmenter import training
from serve_app.embedded.segmenter.loss import (
    LossWeights,
    SegmenterOutput,
    box_giou,
    dice_loss,
    focal_loss,
    match,
    patch_box_loss,
    segmenter_loss,
)
from serve_app.embedded.segmenter.training import PatchBoxHead


@pytest.fixture(scope="module")
def model_and_processor() -> tuple[Sam3Model, Sam3Processor]:
    torch.manual_seed(0)
    return build_model(None)


@pytest.fixture(scope="module")
def batches(sprites: SpriteLibrary, model_and_processor: tuple[Sam3Model, Sam3Processor]) -> SceneBatches:
    tokenizer = model_and_processor[1].tokenizer
    return SceneBatches(sprites, tokenizer, seed=0, num_scenes=2, num_phrases=4, num_mask_scenes=1)


@pytest.fixture(scope="module")
def batch(batches: SceneBatches) -> SceneBatch:
    return batches[1]


def test_batch_depends_on_its_index_only(batches: SceneBatches, batch: SceneBatch) -> None:
    assert torch.equal(batches[1].pixels, batch.pixels)
    assert not torch.equal(batches[2].pixels, batch.pixels)


def test_batch_pads_boxes_and_masks(batch: SceneBatch) -> None:
    assert batch.pixels.shape == (2, 3, 224, 224)
    assert batch.pixels.dtype == torch.uint8
    assert batch.boxes.shape == (8, 8, 4)
    assert batch.masks.shape == (4, 8, 128, 128)
    for row, count in enumerate(batch.counts.tolist()):
        assert (batch.boxes[row, :count, 2:] > batch.boxes[row, :count, :2]).all()
        assert not batch.boxes[row, count:].any()
    for row, count in enumerate(batch.counts.tolist()[: len(batch.masks)]):
        assert (batch.masks[row, :count].amax((1, 2)) > 0).all()
        assert not batch.masks[row, count:].any()


def test_patches_of_a_batch_belong_to_named_objects(batch: SceneBatch) -> None:
    assert batch.owners.shape == (8, 256)
    middles = (torch.arange(16) + 0.5) / 16
    for owners, count, boxes in zip(batch.owners, batch.counts.tolist(), batch.boxes, strict=True):
        assert set(owners.tolist()) == set(range(-1, count))
        for number in range(count):
            rows, columns = (owners.view(16, 16) == number).nonzero(as_tuple=True)
            x1, y1, x2, y2 = boxes[number].tolist()
            assert x1 - 0.5 / 16 < middles[columns].min() <= middles[columns].max() < x2 + 0.5 / 16
            assert y1 - 0.5 / 16 < middles[rows].min() <= middles[rows].max() < y2 + 0.5 / 16


def test_patch_owners_chooses_who_covers_most_of_a_patch() -> None:
    covered = torch.tensor([[[0.6, 0.01], [0.3, 0.0]], [[0.4, 0.02], [0.7, 0.2]]])
    assert patch_owners(covered).tolist() == [0, -1, 1, 1]
    assert patch_owners(torch.zeros(0, 2, 2)).tolist() == [-1] * 4


def test_patch_box_loss_counts_each_object_once() -> None:
    """Two objects, one of three patches that are right and one of a single patch that is wrong."""
    owners = torch.tensor([[0, 0, 0, 1]])
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]])
    predicted = torch.tensor([[[0.25, 0.25, 0.5, 0.5]] * 4])
    empty = torch.zeros(0)
    truth = SceneBatch(empty, empty, empty, boxes, torch.tensor([2]), empty, owners)
    l1, giou = patch_box_loss(SegmenterOutput(empty, empty, empty, empty, empty, predicted), truth)
    assert l1.item() == pytest.approx((0 + 1.0) / 2)
    assert giou.item() == pytest.approx((0 + 1.5) / 2)


def test_patch_box_head_starts_near_its_patch() -> None:
    boxes = PatchBoxHead()(torch.zeros(2, 16, 96))
    assert boxes.shape == (2, 16, 4)
    assert boxes[0, 1, :2].tolist() == pytest.approx([3 / 8, 1 / 8], abs=0.11)
    assert (boxes[..., 2:] > 0).all()


def test_forward_agrees_with_the_stock_forward(
    model_and_processor: tuple[Sam3Model, Sam3Processor], batch: SceneBatch
) -> None:
    model = model_and_processor[0].eval()
    with torch.no_grad():
        ours = training.forward(model, batch, PatchBoxHead())
        stock = model(
            pixel_values=(batch.pixels.float() / 127.5 - 1).repeat_interleave(4, 0),
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
        )
    torch.testing.assert_close(ours.logits[-1], stock.pred_logits, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(ours.presence_logits[-1], stock.presence_logits[:, 0], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(ours.mask_logits, stock.pred_masks[:4], atol=1e-3, rtol=1e-3)


def test_loss_falls_on_one_batch(model_and_processor: tuple[Sam3Model, Sam3Processor], batch: SceneBatch) -> None:
    model = model_and_processor[0].train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    losses = []
    for _ in range(3):
        loss, log = segmenter_loss(training.forward(model, batch, PatchBoxHead()), batch, LossWeights())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert set(log) >= {"score", "giou", "patch_giou", "presence_accuracy", "mask_iou"}


def test_loss_of_absent_phrases_alone_is_finite(
    model_and_processor: tuple[Sam3Model, Sam3Processor], batch: SceneBatch
) -> None:
    absent = SceneBatch(
        batch.pixels, batch.input_ids, batch.attention_mask,
        torch.zeros_like(batch.boxes), torch.zeros_like(batch.counts), torch.zeros_like(batch.masks),
        torch.full_like(batch.owners, -1),
    )  # fmt: skip
    output = training.forward(model_and_processor[0], absent, PatchBoxHead())
    loss, _ = segmenter_loss(output, absent, LossWeights())
    loss.backward()
    assert torch.isfinite(loss)


def test_match_gives_each_object_one_query_per_layer(
    model_and_processor: tuple[Sam3Model, Sam3Processor], batch: SceneBatch
) -> None:
    output = training.forward(model_and_processor[0], batch, PatchBoxHead())
    matches = match(output, batch)
    assert len(matches.layer) == 3 * int(batch.counts.sum())
    assert len(set(zip(matches.layer.tolist(), matches.phrase.tolist(), matches.query.tolist(), strict=True))) == len(
        matches.layer
    )


@pytest.mark.parametrize(
    ("second", "expected"),
    [((0.0, 0.0, 1.0, 1.0), 1.0), ((0.5, 0.0, 1.5, 1.0), 1 / 3), ((2.0, 0.0, 3.0, 1.0), -1 / 3)],
    ids=["same", "half", "apart"],
)
def test_box_giou(second: tuple[float, ...], expected: float) -> None:
    assert box_giou(torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor(second)).item() == pytest.approx(expected)


def test_focal_and_dice_loss_vanish_on_a_sure_right_answer() -> None:
    target = torch.zeros(1, 4, 4)
    target[0, :2] = 1
    logits = 40 * target - 20
    assert focal_loss(logits, target, 0.5).max() < 1e-6
    assert dice_loss(logits, target).item() == pytest.approx(0, abs=1e-6)


def test_schedule_rises_then_falls_to_zero() -> None:
    rates = [schedule(step, 10, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) > 0.97
    assert rates[100] == pytest.approx(0)


def test_tokenizer_spells_unknown_words_and_marks_the_ends(tmp_path: Path) -> None:
    processor = build_processor(build_tokenizer())
    processor.save_pretrained(tmp_path)
    tokenizer = Sam3Processor.from_pretrained(tmp_path).tokenizer
    ids = tokenizer(["Red sofa", "zorblat"])["input_ids"]
    assert len(ids[0]) == 4
    assert all(row[0] == tokenizer.bos_token_id and row[-1] == tokenizer.eos_token_id for row in ids)
    assert tokenizer.unk_token_id not in ids[1][1:-1]


def test_run_resumes_where_it_stopped(tmp_path: Path, sprites: SpriteLibrary) -> None:
    parser = argparse.ArgumentParser()
    training.add_arguments(parser)
    args = parser.parse_args(
        ["--steps", "2", "--scenes", "1", "--mask-scenes", "1", "--save-every", "1", "--state", str(tmp_path / "s.pt")]
    )
    rendezvous = f"file://{tmp_path}/rendezvous"
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=0, world_size=1)
    try:
        model, processor = build_model(None)
        data = SceneBatches(sprites, processor.tokenizer, seed=0, num_scenes=1, num_phrases=4, num_mask_scenes=1)
        list(training.SegmenterTraining(model, args).train(data))
        args.steps = 3
        resumed = training.SegmenterTraining(build_model(None)[0], args)
        assert resumed.step == 2
        list(resumed.train(data))
        assert resumed.step == 3
    finally:
        torch.distributed.destroy_process_group()
    training.save_checkpoint(resumed.average.module, processor, tmp_path / "checkpoint")
    loaded = Sam3Model.from_pretrained(tmp_path / "checkpoint")
    assert loaded.dtype == torch.float16


def test_training_a_part_leaves_the_rest_as_it_was_and_resumes(batches: SceneBatches, tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    training.add_arguments(parser)
    options = ["--part", "dot_product_scoring", "--warmup", "1", "--save-every", "1"]
    options += ["--state", str(tmp_path / "run" / "state.pt")]
    model = build_model(None)[0]
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        for steps in (1, 2):
            args = parser.parse_args([*options, "--steps", str(steps)])
            resumed = training.SegmenterTraining(model, args)
            assert resumed.step == steps - 1
            list(resumed.train(batches))
    finally:
        distributed.destroy_process_group()
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed
    assert all(name.startswith("dot_product_scoring") for name in changed)
