"""What the doctor says of the models of a configuration, from facts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from serve_app.cli.doctor.check import Check
from serve_app.cli.doctor.machine import Disk, Machine
from serve_app.cli.doctor.model_checks import model_checks
from serve_app.cli.doctor.setup import Model
from serve_app.models.hub import GATED, UNREACHABLE, HubAnswer
from tests.cli.doctor.facts import A100, CPU_ONLY, GIB, L4, T4, named, parser, segmenter, setup_of, with_cards

ABSENT = replace(parser(), place="hub", parameters=None, hub=HubAnswer(None, True, 9 * GIB))


def checks_of(machine: Machine, *models: Model, document: object = None) -> list[Check]:
    return [*model_checks(machine, setup_of(document, models=models))]


@pytest.mark.parametrize(
    ("model", "status", "words"),
    [
        (parser(), "ok", "/models/4b: in its folder, 4,440.0 million parameters"),
        (parser(place="cache", parameters=None), "ok", "in the hub's local cache"),
        (parser(name="embedded", place="embedded"), "ok", "embedded: ships inside the package"),
        (ABSENT, "ok", "not on this machine; it can be downloaded from the hub, 9.0 GiB at the first start"),
        (replace(ABSENT, hub=HubAnswer(None)), "ok", "its size is not known"),
        (replace(ABSENT, hub=HubAnswer(GATED), fault=GATED), "fail", f"/models/4b: {GATED}"),
        (parser(place="nowhere", fault="there is no such folder"), "fail", "/models/4b: there is no such folder"),
    ],
)
def test_where_a_model_is(model: Model, status: str, words: str) -> None:
    check = named(checks_of(with_cards(A100), model), "parser")
    assert check.status == status
    assert words in check.text


@pytest.mark.parametrize(
    ("free", "answers", "status", "words"),
    [
        (50 * GIB, [9 * GIB], "ok", "/cache has 50.0 GiB free for 9.0 GiB"),
        (
            5 * GIB,
            [9 * GIB],
            "fail",
            "/cache has 5.0 GiB free for 9.0 GiB; free some space, or set HF_HOME to a folder",
        ),
        (10 * GIB, [9 * GIB, 2 * GIB], "fail", "10.0 GiB free for 11.0 GiB"),
        (10 * GIB, [9 * GIB, None], "ok", "9.0 GiB and models of unknown size"),
        (None, [9 * GIB], "warn", "/cache cannot be read; check HF_HOME"),
    ],
)
def test_room_for_downloads(free: int | None, answers: list[int | None], status: str, words: str) -> None:
    machine = replace(CPU_ONLY, model_cache=Disk(Path("/cache"), free))
    models = [replace(ABSENT, name=f"owner/{size}", hub=HubAnswer(None, True, size)) for size in answers]
    check = named(checks_of(machine, *models), "downloads")
    assert check.status == status
    assert words in check.text


def test_nothing_is_said_of_downloads_where_there_are_none() -> None:
    unreachable = replace(ABSENT, fault=UNREACHABLE, hub=HubAnswer(UNREACHABLE, reached=False))
    assert "downloads" not in {check.name for check in checks_of(CPU_ONLY, parser(), unreachable)}
    names = {check.name for check in checks_of(CPU_ONLY, parser())}
    assert not {"downloads", "token"} & names


@pytest.mark.parametrize(("token", "status"), [(True, "ok"), (False, "warn")])
def test_a_token_matters_where_something_is_downloaded(token: bool, status: str) -> None:
    check = named(checks_of(replace(CPU_ONLY, token=token), ABSENT), "token")
    assert check.status == status
    assert "HF_TOKEN" in check.text


@pytest.mark.parametrize(
    ("model", "name", "status", "words"),
    [
        (parser(), "parser memory", "ok", "8.3 GiB of weights fit into 9.0 GiB (gpu_memory_fraction 0.4 of 22.5 GiB)"),
        (
            parser(fraction=0.33),
            "parser memory",
            "fail",
            "loading the weights takes 8.3 GiB, but the model may use only 7.4 GiB (gpu_memory_fraction 0.33 of 22.5 "
            "GiB); raise gpu_memory_fraction above 0.37, or use a smaller model",
        ),
        (parser(parameters=20_000_000_000), "parser memory", "fail", "use another GPU, or use a smaller model"),
        (parser(dtype="float32"), "parser memory", "fail", "loading the weights takes 16.5 GiB"),
        (
            parser(dtype="auto", fraction=None),
            "parser memory",
            "ok",
            "8.3 GiB of weights fit into 22.5 GiB (the whole GPU)",
        ),
        (ABSENT, "parser memory", "ok", "not known before the model is downloaded; the model may use 9.0 GiB"),
        (segmenter(), "segmenter memory", "ok", "3.1 GiB of weights and 1.0 GiB of cache fit into 11.2 GiB"),
        (segmenter(fraction=0.17), "segmenter memory", "fail", "3.1 GiB of weights and 1.0 GiB of cache do not fit"),
    ],
)
def test_memory_of_a_card(model: Model, name: str, status: str, words: str) -> None:
    check = named(checks_of(with_cards(L4), model), name)
    assert check.status == status
    assert words in check.text


def test_main_memory_counts_on_a_cpu() -> None:
    model = parser(device="cpu", dtype="float32", fraction=None)
    assert "parser memory" not in {check.name for check in checks_of(CPU_ONLY, model)}
    check = named(checks_of(replace(CPU_ONLY, free_memory_bytes=8 * GIB), model), "parser memory")
    assert (check.status, check.found) == ("fail", "its weights take 16.5 GiB, and 8.0 GiB of main memory is free")


@pytest.mark.parametrize(
    ("fractions", "status", "words"),
    [
        ((0.4, 0.5), "ok", "gpu_memory_fraction add up to 0.9"),
        ((0.6, 0.5), "fail", "add up to 1.1; lower them to a sum of 0.95 or less"),
        ((0.6, None), "warn", "not each has a limit"),
        ((None, None), "warn", "not each has a limit"),
    ],
)
def test_models_that_share_a_card(fractions: tuple[float | None, float | None], status: str, words: str) -> None:
    models = parser(fraction=fractions[0]), segmenter(fraction=fractions[1])
    check = named(checks_of(with_cards(A100), *models), "shared card")
    assert check.status == status
    assert words in check.text


def test_models_on_cards_of_their_own_share_nothing() -> None:
    alone = checks_of(with_cards(A100, A100), parser(), segmenter())
    elsewhere = checks_of(with_cards(A100), parser(device="cpu"), segmenter())
    assert "shared card" not in {check.name for check in (*alone, *elsewhere)}


def test_bfloat16_on_a_card_without_it_is_named() -> None:
    document = {"models": {"segmentation": {"device": "cuda", "head_dtype": "bfloat16"}}}
    checks = checks_of(with_cards(T4), segmenter(dtype="auto"), document=document)
    assert named(checks, "segmenter's head dtype").status == "warn"
    assert "segmenter dtype" not in {check.name for check in checks}
    check = named(checks_of(with_cards(T4), parser()), "parser dtype")
    assert "Tesla T4 computes slowly or not at all; set auto or float16" in check.text
