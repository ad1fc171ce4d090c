"""Chooses a model's device and dtypes, and caps the GPU memory of this process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from serve_app.errors import CheckpointError
from serve_app.models.cuda import CudaFacts, read_cuda, why_no_such, why_not

logger = logging.getLogger(__name__)

BFLOAT16_SINCE = (8, 0)
"""The first compute capability with bfloat16 (Ampere). Source: NVIDIA, CUDA C++ Programming Guide."""

Capability = tuple[int, int]


@dataclass(frozen=True)
class MemoryWall:
    """The cap on the GPU memory of this process.

    Attributes:
        fraction: `gpu_memory_fraction`, in (0, 1].
        total_bytes: size of the whole GPU's memory.
    """

    fraction: float
    total_bytes: int

    def __str__(self) -> str:
        total = self.total_bytes / 2**30
        return f"gpu_memory_fraction {self.fraction:g} ({self.fraction * total:.1f} of {total:.1f} GiB)"


def resolve_device(device: str, cuda_device: int, read: Callable[[], CudaFacts] = read_cuda) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `cuda:N` into a torch device.

    Args:
        device: as configured. `auto` means a GPU if CUDA works, else the CPU; it logs a warning if the machine has an
            NVIDIA GPU that PyTorch cannot use.
        cuda_device: number of the GPU that `auto` and `cuda` mean, among the GPUs that this process sees.
        read: finds out what this process can do with CUDA; not called for `cpu`.

    Raises:
        CheckpointError: the device is of another kind, or a GPU that this process does not see.
    """
    kind, colon, number = device.partition(":")
    if kind not in {"auto", "cpu", "cuda"} or (colon and not (kind == "cuda" and number.isdecimal())):
        raise CheckpointError(f"device {device!r} is not supported; use auto, cpu, cuda or cuda:N")
    if kind == "cpu":
        return torch.device("cpu")
    facts = read()
    if kind == "auto" and (fault := why_not(facts)):
        if facts.has_nvidia:
            logger.warning("device auto: this machine has an NVIDIA GPU, but the model runs on the CPU: %s", fault)
        return torch.device("cpu")
    index = int(number) if number else cuda_device
    if fault := why_no_such(facts, index):
        raise CheckpointError(f"device cuda:{index}: {fault}")
    return torch.device("cuda", index)


def cap_memory(device: torch.device, fraction: float | None) -> MemoryWall | None:
    """Cap this process's share of a GPU's memory. Without a cap, one replica can take the memory of another.

    Args:
        device: the model's device.
        fraction: `gpu_memory_fraction`, in (0, 1]; None sets no cap.

    Returns:
        The cap; None if there is none, as always on a CPU.
    """
    wall = memory_wall(device, fraction)
    if wall is not None:
        torch.cuda.set_per_process_memory_fraction(wall.fraction, device)
    return wall


def memory_wall(device: torch.device, fraction: float | None) -> MemoryWall | None:
    """Return the cap that `cap_memory` would set, without setting it."""
    if fraction is None or device.type != "cuda":
        return None
    return MemoryWall(fraction, int(torch.cuda.get_device_properties(device).total_memory))


def _capability(device: torch.device) -> Capability:
    return torch.cuda.get_device_capability(device) if torch.cuda.is_available() else BFLOAT16_SINCE


def resolve_dtype(
    dtype: str, device: torch.device, capability_of: Callable[[torch.device], Capability] = _capability
) -> torch.dtype:
    """Turn a configured dtype into a torch dtype.

    Args:
        dtype: as configured. `auto` is float32 on a CPU, bfloat16 on a GPU, and float16 on a GPU that lacks bfloat16.
        device: the model's device.
        capability_of: returns a GPU's compute capability.
    """
    if dtype == "auto":
        if device.type != "cuda":
            return torch.float32
        capability = capability_of(device)
        if capability >= BFLOAT16_SINCE:
            return torch.bfloat16
        logger.warning("this GPU, of compute capability %d.%d, has no bfloat16: dtype auto is float16", *capability)
        return torch.float16
    resolved = getattr(torch, dtype)
    assert isinstance(resolved, torch.dtype)  # the configuration admits dtype names only
    return resolved


def resolve_head_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Turn a configured `head_dtype` into a torch dtype.

    `auto` is float32 on a CPU and float16 on a GPU. Every GPU that PyTorch supports computes float16, as fast as
    bfloat16. On the held-out scenes, float16 changes the embedded model's scores an eighth as much as bfloat16 does.

    Args:
        dtype: as configured.
        device: the model's device.
    """
    if dtype == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return resolve_dtype(dtype, device)


def is_exact(dtype: torch.dtype) -> bool:
    """Tell whether a dtype is float32, so that results can be compared exactly."""
    return dtype is torch.float32
