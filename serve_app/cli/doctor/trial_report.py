"""Reports the trial of the models: checks, and a table of times and memory. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from serve_app.cli.doctor.agreement import BOX_PX, LEAST_IOU
from serve_app.cli.doctor.budgets import GIB, Budgets, budgets
from serve_app.cli.doctor.check import Check, gib
from serve_app.cli.doctor.report import Row
from serve_app.cli.doctor.segmenter_trial import SegmenterTrial
from serve_app.cli.doctor.trial import IdentityTrial, ParserTrial, Trial
from serve_app.schemas.counted import counted

GROUP = "load"
UNITS = {"prepare": "image", "vision": "image", "text": "phrase", "head": "pair", "masks": "object"}
"""One pair is one image with one phrase."""


def trial_checks(trial: Trial) -> Iterator[Check]:
    """Check for each model whether it loads, and whether it agrees with the plain loop."""
    for name, part in (("parser", trial.parser), ("segmenter", trial.segmenter), ("identity", trial.identity)):
        if isinstance(part, str):
            yield Check(GROUP, name, "fail", part)
        elif part is not None:
            yield Check(GROUP, name, "ok", f"loaded in {part.load_s:.1f} s")
    if isinstance(trial.parser, ParserTrial) and trial.parser.differing is not None:
        yield _same_entities(trial.parser, trial.parser.differing)
    if isinstance(trial.segmenter, SegmenterTrial):
        yield _same_objects(trial.segmenter)
        yield _budgets(trial, trial.segmenter)


def _same_entities(parser: ParserTrial, differing: int) -> Check:
    name = "same entities"
    if not differing:
        return Check(GROUP, name, "ok", f"{_prompts(parser)}, {parser.entities} entities, as in the plain loop")
    found = f"the plain loop reads {differing} of {_prompts(parser)} differently"
    if parser.exact:
        return Check(GROUP, name, "fail", f"{found}, in float32", "please report it")
    return Check(GROUP, name, "warn", f"{found}; half precision may swap two tokens of nearly equal probability")


def _prompts(parser: ParserTrial) -> str:
    return counted(parser.prompts, "prompts")


def _same_objects(segmenter: SegmenterTrial) -> Check:
    name, agreement = "same objects", segmenter.agreement
    worst = (
        f"boxes differ by at most {agreement.worst_box_px:.2f} px, and mask IoU is at least {agreement.worst_iou:.4f}"
    )
    found = f"the plain loop in float32 finds {counted(agreement.objects, 'objects')}, {agreement.differing} differ"
    if not agreement.objects and not agreement.differing:
        return Check(
            GROUP,
            name,
            "warn",
            "neither our segmenter nor the plain loop found an object in the bundled images",
            "try your own images",
        )
    if not agreement.differing:
        return Check(GROUP, name, "ok", f"{found}: {worst}")
    how = (
        f"{found}: {agreement.missing} missing, {agreement.extra} extra, {agreement.moved} moved by over {BOX_PX:g} px "
        f"or with a mask IoU below {LEAST_IOU:g}; for objects that both found, {worst}"
    )
    if segmenter.exact:
        return Check(GROUP, name, "fail", f"{how}, in float32", "please report it")
    return Check(GROUP, name, "warn", f"{how}; half precision and TF32 change scores and outlines a little")


def fitting(trial: Trial) -> Budgets | None:
    """Return the settings that fit the GPU; None on a CPU, or if nothing fits."""
    segmenter = trial.segmenter
    if not isinstance(segmenter, SegmenterTrial) or segmenter.memory is None or segmenter.card_bytes is None:
        return None
    parser = trial.parser.peak_bytes if isinstance(trial.parser, ParserTrial) and trial.parser.on_gpu else None
    return budgets(segmenter.card_bytes, parser, segmenter.memory, segmenter.image_pixels)


def _budgets(trial: Trial, segmenter: SegmenterTrial) -> Check:
    if segmenter.memory is None or segmenter.card_bytes is None:
        return Check(
            GROUP,
            "budgets",
            "ok",
            "gpu_memory_fraction has no effect on a CPU; lower max_pixels and max_pairs to save memory",
        )
    fits = fitting(trial)
    card = gib(segmenter.card_bytes)
    if fits is None:
        found = f"the models and one image or pair do not fit into the {card} of this GPU"
        return Check(
            GROUP, "budgets", "fail", found, "use a smaller parser model, or a parser on a server (engine openai)"
        )
    parser = "" if fits.parser_fraction is None else f"parser gpu_memory_fraction {fits.parser_fraction:.2f}, "
    found = (
        f"settings that fit {card}: {parser}segmenter gpu_memory_fraction {fits.segmenter_fraction:.2f}, max_pairs "
        f"{fits.max_pairs}, max_pixels {fits.max_pixels}, vision_bytes {fits.vision_bytes}"
    )
    return Check(GROUP, "budgets", "ok", found)


def trial_rows(trial: Trial) -> list[Row]:
    """Return the rows of the table of times and memory."""
    rows: list[Row] = []
    parser, segmenter, identity = trial.parser, trial.segmenter, trial.identity
    if isinstance(parser, ParserTrial):
        rows.append(Row("parse, alone", parser.prompt_s * 1000, "ms per prompt"))
        if parser.batch_s is not None:
            rows.append(Row("parse, in a batch", parser.batch_s * 1000, "ms per prompt"))
        if parser.peak_bytes is not None:
            rows.append(Row("parser, peak memory", parser.peak_bytes / GIB, f"GiB {_where(parser.on_gpu)}"))
    if isinstance(segmenter, SegmenterTrial):
        rows += [Row(stage, took * 1000, f"ms per {UNITS[stage]}") for stage, took in segmenter.stage_s.items()]
        for count, speed in segmenter.images_per_s.items():
            rows.append(Row(counted(count, "phrases"), speed, "images/s"))
        rows.append(
            Row("segmenter, peak memory", segmenter.peak_bytes / GIB, f"GiB {_where(segmenter.card_bytes is not None)}")
        )
        rows += _of_card(segmenter)
    if isinstance(identity, IdentityTrial):
        rows.append(Row("identity", identity.object_s * 1000, "ms per object"))
    return rows


def _where(on_gpu: bool) -> str:
    return "on the GPU" if on_gpu else "of this process"


def _of_card(segmenter: SegmenterTrial) -> Iterator[Row]:
    if segmenter.memory is not None:
        yield Row("segmenter, weights", segmenter.memory.weights / GIB, "GiB on the GPU")
        yield Row("vision pass", segmenter.memory.image / GIB, "GiB per image")
        yield Row("detector pass", segmenter.memory.pair / GIB, "GiB per pair")
        yield Row("cache", segmenter.memory.features / GIB, "GiB per image")
