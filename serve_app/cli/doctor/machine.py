"""The facts about a machine, which `probe` reads. The checks judge them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serve_app.models.cuda import Card, CudaFacts


@dataclass(frozen=True)
class Disk:
    """The disk space of a folder.

    Attributes:
        place: the folder.
        free_bytes: free space of its file system; None if it cannot be read.
        total_bytes: total space of its file system; None if it cannot be read.
    """

    place: Path
    free_bytes: int | None
    total_bytes: int | None = None


@dataclass(frozen=True)
class Machine:
    """One machine, as this process sees it.

    Attributes:
        cuda: what PyTorch reports about CUDA.
        cards: the GPUs, from PyTorch if CUDA works, else from nvidia-smi.
        driver: version of the NVIDIA driver, from nvidia-smi; None if nvidia-smi fails.
        oldest_capability: oldest compute capability that this PyTorch has kernels for.
        cores: how many cores this process may use.
        memory_bytes: main memory, within a container's limit.
        free_memory_bytes: main memory that is available now.
        omp_threads: the variable OMP_NUM_THREADS; None if it is not set.
        shared_memory: /dev/shm, where Ray keeps images; None if it does not exist.
        ray_files: the folder of Ray's files.
        model_cache: the folder of downloaded models.
        compiler: path of a C compiler; None if there is none.
        cxx_compiler: path of the C++ compiler that PyTorch calls; None if there is none.
        python_headers: whether Python's C headers exist, which torch.compile needs.
        versions: versions of packages, by name; None for a missing package.
        wrong_versions: missing packages, and packages whose version does not fit, as "torch 2.9 (needs >=2.14)".
        token: whether this machine has a token for the model hub.
        offline: whether HF_HUB_OFFLINE forbids calls of the model hub.
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
