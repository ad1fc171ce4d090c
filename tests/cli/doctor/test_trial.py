"""The models against the plain loop, and what is computed and said of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serve_app.cli.doctor.agreement import Agreement, Objects, compare
from serve_app.cli.doctor.budgets import Budgets, SegmenterBytes, budgets
from serve_app.cli.doctor.check import can_run
from serve_app.cli.doctor.samples import bundled
from serve_app.cli.doctor.segmenter_trial import SegmenterTrial, one_more
from serve_app.cli.doctor.trial import IdentityTrial, ParserTrial, Trial, try_models
from serve_app.cli.doctor.trial_report import trial_checks, trial_rows
from serve_app.config.files import app_config_from
from serve_app.masks.rle import encode_rle
from tests.cli.doctor.facts import GIB, named


def square(left: int, top: int, side: int = 20) -> tuple[list[float], np.ndarray]:
    mask = np.zeros((60, 80), bool)
    mask[top : top + side, left : left + side] = True
    return [left, top, left + side, top + side], mask


def objects(*squares: tuple[int, int]) -> Objects:
    made = [square(*each) for each in squares]
    boxes = np.array([box for box, _ in made], np.float64).reshape(-1, 4)
    return Objects(boxes, [encode_rle(mask) for _, mask in made])


@pytest.mark.parametrize(
    ("ours", "plain", "expected"),
    [
        (objects(), objects(), Agreement()),
        (objects((0, 0), (40, 30)), objects((40, 30), (0, 0)), Agreement(objects=2)),
        (objects((0, 0)), objects((0, 0), (40, 30)), Agreement(objects=2, missing=1)),
        (objects((0, 0), (40, 30)), objects((0, 0)), Agreement(objects=1, extra=1)),
        (objects(), objects((0, 0)), Agreement(objects=1, missing=1)),
        (
            objects((0, 0)),
            objects((2, 0)),
            Agreement(objects=1, moved=1, worst_box_px=2.0, worst_iou=18 / 22),
        ),
    ],
    ids=["nothing", "another order", "one missing", "one more", "all missing", "moved"],
)
def test_two_ways_are_compared(ours: Objects, plain: Objects, expected: Agreement) -> None:
    found = compare(ours, plain)
    assert replace(found, worst_iou=expected.worst_iou) == expected
    assert found.worst_iou == pytest.approx(expected.worst_iou)


def test_a_box_may_move_by_a_pixel_and_empty_masks_agree() -> None:
    empty = encode_rle(np.zeros((60, 80), bool))
    ours, plain = (Objects(np.array([[x, 0.0, 9.0, 9.0]]), [empty]) for x in (0.0, 0.9))
    assert compare(ours, plain).differing == 0
    assert compare(ours, Objects(np.array([[1.1, 0.0, 9.0, 9.0]]), [empty])).moved == 1


def test_comparisons_add_up() -> None:
    total = Agreement(3, 1, 0, 0, 0.5, 0.9).plus(Agreement(2, 0, 1, 1, 2.0, 0.99))
    assert total == Agreement(5, 1, 1, 1, 2.0, 0.9)
    assert total.differing == 3


FEATURES = 58_000_000
SAM3 = SegmenterBytes(int(3.4 * GIB), int(2.3 * GIB), image=GIB // 7, pair=GIB // 6, features=FEATURES)
SIDE = 1008 * 1008


def test_budgets_of_one_card_hold_together() -> None:
    total, peak = int(22.5 * GIB), int(9.2 * GIB)
    fits = budgets(total, peak, SAM3, SIDE)
    assert fits is not None
    assert fits.parser_fraction is not None
    assert fits.parser_fraction * total >= peak
    assert fits.parser_fraction + fits.segmenter_fraction <= 0.95 + 1e-9
    room = fits.segmenter_fraction * total
    images = fits.max_pixels // SIDE
    assert SAM3.weights + fits.vision_bytes + max(fits.max_pairs * SAM3.pair, images * SAM3.image) <= room
    assert fits.max_pairs >= 8
    assert fits.vision_bytes % SAM3.features == 0


def test_a_segmenter_alone_takes_the_card() -> None:
    assert budgets(80 * GIB, None, SAM3, SIDE) == Budgets(None, 0.95, 64, 16 * SIDE, 6 * GIB // FEATURES * FEATURES)


@pytest.mark.parametrize(("total", "peak"), [(3 * GIB, None), (22 * GIB, 19 * GIB)], ids=["small card", "large parser"])
def test_what_does_not_fit_has_no_budgets(total: int, peak: int | None) -> None:
    assert budgets(total, peak, SAM3, SIDE) is None


@pytest.mark.parametrize("most", [1, 2, 4])
def test_one_more_item_is_measured_within_one_pass(most: int) -> None:
    """Where a pass holds two items, four of them take as much as two: that is not what an item takes."""
    assert one_more(lambda count: 2_000 + 70 * min(count, most), most, held=2_000) == 70


PARSER = ParserTrial(prompts=2, entities=7, load_s=2.0, prompt_s=0.5, batch_s=0.2, peak_bytes=GIB, differing=0)
SEGMENTER = SegmenterTrial(
    load_s=3.0,
    stage_s={"prepare": 0.002, "vision": 0.1, "text": 0.01, "head": 0.02, "masks": 0.005},
    images_per_s={1: 9.0, 4: 5.0, 16: 2.0},
    peak_bytes=2 * GIB,
    agreement=Agreement(objects=7),
    exact=True,
    image_pixels=SIDE,
)
TRIAL = Trial(PARSER, SEGMENTER, IdentityTrial(0.5, 0.01))
DIFFERING = Agreement(objects=7, missing=1, extra=2, moved=1, worst_box_px=1.5, worst_iou=0.97)
ON_GPU = replace(SEGMENTER, card_bytes=int(22.5 * GIB), memory=SAM3, exact=False)


@pytest.mark.parametrize(
    ("trial", "name", "status", "words"),
    [
        (TRIAL, "parser", "ok", "loaded in 2.0 s"),
        (TRIAL, "same entities", "ok", "2 prompts, 7 entities, as in the plain loop"),
        (TRIAL, "same objects", "ok", "the plain loop in float32 finds 7 objects, 0 differ"),
        (TRIAL, "budgets", "ok", "gpu_memory_fraction has no effect on a CPU"),
        (replace(TRIAL, segmenter="model x: gated"), "segmenter", "fail", "model x: gated"),
        (replace(TRIAL, parser="model y: no such folder"), "parser", "fail", "no such folder"),
        (replace(TRIAL, parser=replace(PARSER, differing=1, exact=True)), "same entities", "fail", "in float32"),
        (
            replace(TRIAL, parser=replace(PARSER, differing=1)),
            "same entities",
            "warn",
            "reads 1 of 2 prompts differently",
        ),
        (
            replace(TRIAL, segmenter=replace(SEGMENTER, agreement=DIFFERING)),
            "same objects",
            "fail",
            "4 differ: 1 missing, 2 extra, 1 moved by over 1 px or with a mask IoU below 0.99; for objects that both "
            "found, "
            "boxes differ by at most 1.50 px",
        ),
        (replace(TRIAL, segmenter=replace(ON_GPU, agreement=DIFFERING)), "same objects", "warn", "half precision"),
        (
            replace(TRIAL, segmenter=replace(SEGMENTER, agreement=Agreement())),
            "same objects",
            "warn",
            "neither our segmenter nor the plain loop",
        ),
        (
            replace(TRIAL, segmenter=ON_GPU),
            "budgets",
            "ok",
            "settings that fit 22.5 GiB: segmenter gpu_memory_fraction 0.95",
        ),
        (
            replace(TRIAL, segmenter=ON_GPU, parser=replace(PARSER, on_gpu=True)),
            "budgets",
            "ok",
            "parser gpu_memory_fraction 0.06, segmenter gpu_memory_fraction 0.89",
        ),
        (replace(TRIAL, segmenter=replace(ON_GPU, card_bytes=3 * GIB)), "budgets", "fail", "use a smaller parser"),
    ],
)
def test_what_is_said_of_a_trial(trial: Trial, name: str, status: str, words: str) -> None:
    check = named(trial_checks(trial), name)
    assert check.status == status
    assert words in check.text


def test_the_table_names_units() -> None:
    rows = {row.name: f"{row.value:g} {row.unit}" for row in trial_rows(TRIAL)}
    assert rows["parse, alone"] == "500 ms per prompt"
    assert rows["parser, peak memory"] == "1 GiB of this process"
    assert rows["head"] == "20 ms per pair"
    assert rows["16 phrases"] == "2 images/s"
    assert rows["identity"] == "10 ms per object"
    assert "detector pass" not in rows
    on_gpu = replace(TRIAL, segmenter=ON_GPU)
    rows = {row.name: f"{row.value:g} {row.unit}" for row in trial_rows(on_gpu)}
    assert rows["detector pass"] == "0.166667 GiB per pair"
    assert rows["segmenter, peak memory"] == "2 GiB on the GPU"
    assert rows["parser, peak memory"] == "1 GiB of this process"
    on_gpu = replace(TRIAL, parser=replace(PARSER, on_gpu=True))
    rows = {row.name: row.unit for row in trial_rows(on_gpu)}
    assert (rows["parser, peak memory"], rows["segmenter, peak memory"]) == ("GiB on the GPU", "GiB of this process")


@contextmanager
def step(_: str) -> Iterator[None]:
    yield


def test_the_embedded_models_find_what_the_plain_loop_finds() -> None:
    samples = bundled()
    assert len(samples.images) == 3
    trial = try_models(app_config_from({}), replace(samples, images=samples.images[-1:]), step)
    checks = [*trial_checks(trial)]
    assert can_run(checks), checks
    assert named(checks, "same objects").status == "ok"
    assert isinstance(trial.segmenter, SegmenterTrial)
    assert trial.segmenter.agreement.objects >= 4
    assert isinstance(trial.parser, ParserTrial)
    assert trial.parser.entities >= 5
    assert trial.parser.exact
    rows = {row.name for row in trial_rows(trial)}
    assert {"prepare", "vision", "text", "head", "masks", "1 phrase", "4 phrases", "16 phrases", "identity"} <= rows


def test_a_model_that_cannot_be_loaded_leaves_the_others(tmp_path: Path, unused_port: int) -> None:
    models = {
        "text_parser": {
            "engine": "openai",
            "openai": {"base_url": f"http://127.0.0.1:{unused_port}/v1", "max_retries": 0},
        },
        "segmentation": {"model_name": str(tmp_path / "nothing")},
        "identity": {"model_name": "embedded"},
    }
    trial = try_models(app_config_from({"models": models}), bundled(), step)
    checks = {check.name: check.status for check in trial_checks(trial)}
    assert checks == {"parser": "fail", "segmenter": "fail", "identity": "ok"}
