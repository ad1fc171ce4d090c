"""Facts of machines and configurations that the doctor's tests judge."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from serve_app.cli.doctor.check import Check
from serve_app.cli.doctor.machine import Disk, Machine
from serve_app.cli.doctor.setup import Model, RayFacts, Setup
from serve_app.config.files import app_config_from
from serve_app.models.cuda import Card, CudaFacts

GIB = 2**30
NO_DRIVER = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver"
L4 = Card("NVIDIA L4", int(22.5 * GIB), (8, 9), 0)
A100 = Card("NVIDIA A100", int(39.4 * GIB), (8, 0), 0)
H100 = Card("NVIDIA H100", int(79.1 * GIB), (9, 0), 0)
T4 = Card("Tesla T4", int(14.6 * GIB), (7, 5), 0)
V100 = Card("Tesla V100", int(31.7 * GIB), (7, 0), 0)

CPU_ONLY = Machine(
    cuda=CudaFacts("2.14.1+cu130", "13.0", 0, error=NO_DRIVER),
    cards=(),
    driver=None,
    oldest_capability=(7, 5),
    cores=8,
    memory_bytes=32 * GIB,
    free_memory_bytes=30 * GIB,
    omp_threads=None,
    shared_memory=Disk(Path("/dev/shm"), 8 * GIB, 8 * GIB),
    ray_files=Disk(Path("/tmp/ray"), 50 * GIB, 100 * GIB),
    model_cache=Disk(Path("/cache"), 50 * GIB, 100 * GIB),
    compiler="/usr/bin/cc",
    cxx_compiler="/usr/bin/g++",
    python_headers=True,
    versions={"torch": "2.14.1", "flash-attn": None, "xgrammar": None},
)


def with_cards(*cards: Card) -> Machine:
    """A machine with GPUs that work."""
    cuda = CudaFacts("2.14.1+cu130", "13.0", len(cards), has_nvidia=True)
    return replace(CPU_ONLY, cuda=cuda, cards=cards, driver="580.65.06")


def setup_of(document: object = None, **fields: object) -> Setup:
    """A configuration, with a Ray of its own that has room, and a free port."""
    ray = RayFacts(cpus=8, gpus=1)
    made = Setup(app_config_from(document or {}), (), ray, ("127.0.0.1", 8000))
    return replace(made, **fields)  # type: ignore[arg-type]


def parser(**fields: object) -> Model:
    """A parser of 4.44 billion parameters in its folder, half a gigabyte of it per 0.25 billion."""
    made = Model("parser", "/models/4b", "cuda", "bfloat16", "folder", parameters=4_440_000_000, fraction=0.4)
    return replace(made, **fields)  # type: ignore[arg-type]


def segmenter(**fields: object) -> Model:
    """A segmenter of 0.84 billion parameters in its folder."""
    made = Model("segmenter", "/models/sam3", "cuda", "bfloat16", "folder", parameters=840_000_000, fraction=0.5)
    return replace(made, **fields)  # type: ignore[arg-type]


def named(checks: Iterable[Check], name: str) -> Check:
    """The one check of a name."""
    (found,) = [check for check in checks if check.name == name]
    return found
