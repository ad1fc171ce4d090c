"""What the doctor says of what a configuration needs besides its models, from facts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serve_app.cli.doctor.machine import Machine
from serve_app.cli.doctor.setup import RayFacts, Setup
from serve_app.cli.doctor.setup_checks import needs_gpu, setup_checks
from serve_app.models.cuda import CudaFacts
from tests.cli.doctor.facts import CPU_ONLY, L4, named, setup_of, with_cards

OPENAI = {
    "models": {"text_parser": {"engine": "openai", "model_name": "big", "openai": {"api_key_env": "NO_SUCH_KEY"}}}
}
BROKEN_GPU = replace(CPU_ONLY, cuda=CudaFacts("2.14", "13.0", 0, error="no", has_nvidia=True))


@pytest.mark.parametrize(
    ("machine", "setup", "name", "status", "words"),
    [
        (CPU_ONLY, setup_of(), "port", "ok", "8000 on 127.0.0.1 is free"),
        (CPU_ONLY, setup_of(busy="port 8000 on 127.0.0.1 is in use"), "port", "fail", "is in use; stop what listens"),
        (CPU_ONLY, setup_of(is_serves=True), "port", "ok", "8000 on 127.0.0.1 is the port of the Serve that runs"),
        (CPU_ONLY, setup_of(ray=RayFacts("h:1", served=("a",))), "port", "warn", "'a' is served already by the Serve"),
        (
            CPU_ONLY,
            setup_of(dashboard_busy=True),
            "dashboard port",
            "warn",
            "port 8265 of Ray's dashboard is in use, but no Ray runs",
        ),
        (CPU_ONLY, setup_of(unset=("c.yaml:3: variable X is not set",)), "token", "fail", "c.yaml:3: variable X"),
        (CPU_ONLY, setup_of(), "Ray", "ok", "none runs here; `genseg serve` starts its own: 8 CPU, 1 GPU"),
        (CPU_ONLY, setup_of(ray=RayFacts("h:6379", cpus=4)), "Ray", "ok", "the cluster at h:6379: 4 CPU, 0 GPU"),
        (CPU_ONLY, setup_of(ray=RayFacts(lacking="P asks for 1 GPU")), "Ray", "fail", "P asks for 1 GPU; change"),
        (CPU_ONLY, setup_of(ray=RayFacts("h:1", lacking="P asks")), "Ray", "warn", "P asks; add nodes"),
        (CPU_ONLY, setup_of(ray=RayFacts(fault="no Ray cluster at h:1")), "Ray", "fail", "at h:1; start it, or unset"),
        (
            CPU_ONLY,
            setup_of({"device": {"use_flash_attention": True}}),
            "flash-attn",
            "warn",
            "the package flash-attn is missing; install the package",
        ),
        (
            CPU_ONLY,
            setup_of({"models": {"text_parser": {"constrained_decoding": True}}}),
            "xgrammar",
            "fail",
            "pip install 'genseg[constrained]'",
        ),
        (
            replace(CPU_ONLY, compiler=None),
            setup_of({"models": {"segmentation": {"compile": True}}}),
            "compiler",
            "fail",
            "this machine has no C compiler; install gcc, or set compile to false",
        ),
        (
            replace(CPU_ONLY, cxx_compiler=None, python_headers=False),
            setup_of({"models": {"segmentation": {"compile": True}}}),
            "compiler",
            "fail",
            "this machine has no C++ compiler and no Python.h; install g++, Python's headers, or set compile to false",
        ),
        (CPU_ONLY, setup_of(OPENAI), "parser", "ok", "big at http://127.0.0.1:8001/v1 answers"),
        (
            CPU_ONLY,
            setup_of(OPENAI, server_fault="cannot be reached"),
            "parser",
            "fail",
            "cannot be reached; check base_url",
        ),
        (CPU_ONLY, setup_of(OPENAI), "parser's key", "fail", "the environment variable NO_SUCH_KEY is not set"),
    ],
)
def test_each_need(machine: Machine, setup: Setup, name: str, status: str, words: str) -> None:
    check = named(setup_checks(machine, setup), name)
    assert check.status == status
    assert words in check.text


def test_what_is_not_asked_for_is_not_mentioned() -> None:
    bare = replace(CPU_ONLY, compiler=None, cxx_compiler=None, python_headers=False)
    assert [check.name for check in setup_checks(bare, setup_of())] == ["Ray", "port"]


def test_packages_that_are_there_are_not_mentioned() -> None:
    document = {
        "device": {"use_flash_attention": True},
        "models": {"text_parser": {"constrained_decoding": True}, "segmentation": {"compile": True}},
    }
    machine = replace(CPU_ONLY, versions={"flash-attn": "2.8", "xgrammar": "0.2.8"})
    assert [check.name for check in setup_checks(machine, setup_of(document))] == ["Ray", "port"]


def test_auto_beside_a_gpu_that_does_not_work_is_named() -> None:
    checks = [check for check in setup_checks(BROKEN_GPU, setup_of()) if check.name == "device"]
    assert [check.status for check in checks] == ["warn", "warn"]
    assert "would run on the CPU although this machine has a GPU" in checks[0].found
    assert not [check for check in setup_checks(with_cards(L4), setup_of()) if check.name == "device"]


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ({}, False),
        ({"segmentation": {"device": "cuda"}}, True),
        ({"text_parser": {"device_map": "cuda"}}, True),
        ({"text_parser": {"device_map": "cuda", "engine": "openai"}}, False),
    ],
)
def test_a_gpu_is_needed_where_one_is_named(models: object, expected: bool) -> None:
    assert needs_gpu(setup_of({"models": models})) is expected
