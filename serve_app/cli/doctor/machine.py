"""What the doctor knows of a machine: facts, read once by `probe`. Holds no judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serve_app.models.cuda import Card, CudaFacts


@dataclass(frozen=True)
class Disk:
    """A place on a disk.

    Attributes:
        place: the folder.
        free_bytes: of its file system; None where it cannot be read.
        total_bytes: likewise.
    """

    place: Path
    free_bytes: int | None
    total_bytes: int | None = None


@dataclass(frozen=True)
class Machine:
    """One machine, as this process sees it.

    Attributes:
        cuda: what PyTorch says of CUDA.
        cards: GPUs; of PyTorch where CUDA works, else those of nvidia-smi.
        driver: version of the NVIDIA driver, by nvidia-smi; None where that does not answer.
        oldest_capability: oldest compute capability that this PyTorch has kernels for.
        cores: that this process may use.
        memory_bytes: main memory, within the bounds of a container.
        free_memory_bytes: of it, what can be had now.
        omp_threads: the variable OMP_NUM_THREADS; None where it is not set.
        shared_memory: /dev/shm, where Ray keeps images; None where there is none.
        ray_files: where Ray keeps its files.
        model_cache: where models are downloaded to.
        compiler: path of a C compiler; None where there is none.
        cxx_compiler: path of the C++ compiler that PyTorch calls; None where there is none.
        python_headers: whether Python's own headers are there, which compiled code includes.
        versions: of packages, by name; None for one that is missing.
        wrong_versions: packages of other versions than this package is made for, as "torch 2.9 (needs >=2.14)".
        token: whether there is a token of the model hub.
        offline: whether the model hub may not be asked.
    """

    cuda: CudaFacts
    cards: tuple[Card, ...]
    driver: str | None
    oldest_capability: tuple[int, int] | None
    cores: int
    memory_bytes: int
    free_memory_bytes: int
    omp_threads: str | None
    shared_memory: Disk | None
    ray_files: Disk
    model_cache: Disk
    compiler: str | None
    cxx_compiler: str | None
    python_headers: bool
    versions: Mapping[str, str | None] = field(default_factory=dict)
    wrong_versions: tuple[str, ...] = ()
    token: bool = False
    offline: bool = False
