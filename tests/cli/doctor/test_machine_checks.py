"""What the doctor says of a machine, from facts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from serve_app.cli.doctor.check import Check, can_run
from serve_app.cli.doctor.kinds import kind_checks, shipped_checks
from serve_app.cli.doctor.machine import Disk, Machine
from serve_app.cli.doctor.machine_checks import machine_checks
from serve_app.models.cuda import Card, CudaFacts
from serve_app.models.hub import GATED, HubAnswer
from tests.cli.doctor.facts import A100, CPU_ONLY, GIB, H100, L4, T4, V100, named, with_cards

OLD_DRIVER = CudaFacts(
    "2.14.1+cu130",
    "13.0",
    0,
    error="The NVIDIA driver on your system is too old (found version 12040).",
    has_nvidia=True,
)


@pytest.mark.parametrize(
    ("machine", "needs_gpu", "status", "words"),
    [
        (with_cards(L4), True, "ok", "driver 580.65.06, PyTorch for CUDA 13.0, 1 GPU to use"),
        (with_cards(L4, L4), None, "ok", "2 GPUs to use"),
        (CPU_ONLY, None, "warn", "finds no NVIDIA driver"),
        (CPU_ONLY, False, "ok", "no GPU was found, and this configuration needs none"),
        (CPU_ONLY, True, "fail", "finds no NVIDIA driver"),
        (replace(CPU_ONLY, cuda=OLD_DRIVER, driver="550.54"), False, "warn", "driver 550.54, the NVIDIA driver is too"),
        (replace(CPU_ONLY, cuda=OLD_DRIVER, driver="550.54"), True, "fail", "580 or newer: update it"),
    ],
)
def test_cuda(machine: Machine, needs_gpu: bool | None, status: str, words: str) -> None:
    check = named(machine_checks(machine, needs_gpu=needs_gpu), "CUDA")
    assert (check.group, check.status) == ("GPU", status)
    assert words in check.text


@pytest.mark.parametrize(
    ("card", "status", "words"),
    [
        (A100, "ok", "NVIDIA A100, 39.4 GiB, compute capability 8.0"),
        (T4, "warn", "compute capability 7.5; it has no bfloat16; set dtype to auto or float16"),
        (V100, "fail", "7.0; this PyTorch supports only 7.5 and newer; install a PyTorch for an older CUDA"),
        (replace(A100, used_bytes=12 * GIB), "warn", "other processes use 12.0 GiB of it; see nvidia-smi"),
        (replace(A100, used_bytes=GIB), "ok", "NVIDIA A100"),
        (replace(A100, capability=None), "ok", "NVIDIA A100, 39.4 GiB"),
    ],
)
def test_each_card(card: Card, status: str, words: str) -> None:
    check = named(machine_checks(with_cards(L4, card)), "cuda:1")
    assert check.status == status
    assert words in check.text


@pytest.mark.parametrize(
    ("fields", "name", "status", "words"),
    [
        ({}, "packages", "ok", "torch 2.14.1"),
        ({"wrong_versions": ("ray 2.40 (needs >=2.60)",)}, "packages", "warn", "ray 2.40 (needs >=2.60); install"),
        ({}, "CPU", "ok", "8 cores, 32.0 GiB of memory, 30.0 GiB free"),
        (
            {"omp_threads": "1"},
            "CPU",
            "warn",
            "OMP_NUM_THREADS is '1'; each model on a CPU uses that many threads",
        ),
        ({"omp_threads": "8"}, "CPU", "ok", "8 cores"),
        ({}, "shared memory", "ok", "/dev/shm has 8.0 GiB"),
        (
            {"shared_memory": Disk(Path("/dev/shm"), 0, 64 * 2**20)},
            "shared memory",
            "warn",
            "/dev/shm has 64 MiB; Ray keeps images in files instead; if this is a container, start it with --shm-size",
        ),
        ({}, "Ray's files", "ok", "/tmp/ray has 50.0 GiB free"),
        (
            {"ray_files": Disk(Path("/tmp/ray"), 4 * GIB, 100 * GIB)},
            "Ray's files",
            "warn",
            "4.0 GiB free; Ray stops writing objects when its disk is 95% full",
        ),
        ({"ray_files": Disk(Path("/tmp/ray"), None)}, "Ray's files", "warn", "/tmp/ray cannot be read"),
    ],
)
def test_the_machine_itself(fields: dict[str, object], name: str, status: str, words: str) -> None:
    check = named(machine_checks(replace(CPU_ONLY, **fields)), name)  # type: ignore[arg-type]
    assert check.status == status
    assert words in check.text


def test_a_machine_without_shared_memory_has_no_line_for_it() -> None:
    checks = machine_checks(replace(CPU_ONLY, shared_memory=None))
    assert "shared memory" not in {check.name for check in checks}


@pytest.mark.parametrize(
    ("machine", "fits"),
    [
        (CPU_ONLY, []),
        (with_cards(T4), []),
        (with_cards(V100), []),
        (with_cards(L4), ["24 GB card"]),
        (with_cards(T4, A100), ["24 GB card", "40 GB card"]),
        (with_cards(H100), ["24 GB card", "40 GB card", "80 GB card"]),
    ],
    ids=["no GPU", "T4", "V100", "L4", "T4 and A100", "H100"],
)
def test_the_kinds_that_fit(machine: Machine, fits: list[str]) -> None:
    checks = [*kind_checks(machine)]
    assert [check.name for check in checks if check.status == "ok"] == fits
    assert {check.status for check in checks} <= {"ok", "no"}
    assert can_run(checks)


def test_what_does_not_fit_says_why() -> None:
    def said(machine: Machine) -> str:
        return named(kind_checks(machine), "80 GB card").found

    assert said(CPU_ONLY).endswith("CUDA does not work here")
    assert said(with_cards(T4)).endswith("no GPU here has bfloat16")
    assert said(with_cards(L4)).endswith("the largest GPU with bfloat16 has 22.5 GiB")


@pytest.mark.parametrize(
    ("answer", "token", "expected"),
    [
        (None, False, [("ok", "in the hub's local cache")]),
        (HubAnswer(GATED), False, [("warn", "there is none"), ("warn", "the weights are gated")]),
        (
            HubAnswer(None, True, 7 * GIB),
            True,
            [("ok", "HF_TOKEN is set"), ("ok", "from the hub, 7.0 GiB; 50.0 GiB of")],
        ),
    ],
)
def test_the_segmenter_for_gpus(answer: HubAnswer | None, token: bool, expected: list[tuple[str, str]]) -> None:
    checks: list[Check] = [*shipped_checks(replace(CPU_ONLY, token=token), answer)]
    assert [check.status for check in checks] == [status for status, _ in expected]
    assert all(words in check.text for check, (_, words) in zip(checks, expected, strict=True))
