"""Where a model runs, in which types, and within how much of a GPU's memory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from serve_app.errors import CheckpointError
from serve_app.models.cuda import CudaFacts, read_cuda, why_no_such, why_not

logger = logging.getLogger(__name__)

BFLOAT16_SINCE = (8, 0)
"""The first compute capability with bfloat16, Ampere. Source: NVIDIA, CUDA C++ Programming Guide."""

Capability = tuple[int, int]


@dataclass(frozen=True)
class MemoryWall:
    """The part of a GPU's memory that this process may take.

    Attributes:
        fraction: `gpu_memory_fraction`, in (0, 1].
        total_bytes: memory of the whole GPU.
    """

    fraction: float
    total_bytes: int

    def __str__(self) -> str:
        total = self.total_bytes / 2**30
        return f"gpu_memory_fraction {self.fraction:g} ({self.fraction * total:.1f} of {total:.1f} GiB)"


def resolve_device(device: str, cuda_device: int, read: Callable[[], CudaFacts] = read_cuda) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `cuda:N` into a device.

    Args:
        device: as configured. `auto` takes a GPU where CUDA works, and warns where there is a GPU that does not work.
        cuda_device: index that `auto` and a bare `cuda` mean, among the GPUs this process sees.
        read: finds out what this process can do with CUDA; asked only where a GPU may be meant.

    Raises:
        CheckpointError: a GPU is asked for that this process does not see, or a device of another kind.
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
    """Cap this process's share of a GPU's memory: replicas that share a GPU are otherwise not isolated.

    Returns:
        The cap; None where there is none.
    """
    wall = memory_wall(device, fraction)
    if wall is not None:
        torch.cuda.set_per_process_memory_fraction(wall.fraction, device)
    return wall


def memory_wall(device: torch.device, fraction: float | None) -> MemoryWall | None:
    """Return what `cap_memory` sets, without setting it."""
    if fraction is None or device.type != "cuda":
        return None
    return MemoryWall(fraction, int(torch.cuda.get_device_properties(device).total_memory))


def _capability(device: torch.device) -> Capability:
    return torch.cuda.get_device_capability(device) if torch.cuda.is_available() else BFLOAT16_SINCE


def resolve_dtype(
    dtype: str, device: torch.device, capability_of: Callable[[torch.device], Capability] = _capability
) -> torch.dtype:
    """Turn a configured dtype into torch's.

    Args:
        dtype: as configured. `auto` is float32 on a CPU, bfloat16 on a GPU, and float16 on a GPU that lacks bfloat16.
        device: where the model will be.
        capability_of: tells a GPU's compute capability.
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
    """Turn a configured `head_dtype` into torch's.

    `auto` is float32 on a CPU and float16 on a GPU: every GPU that PyTorch supports has it, at the speed of bfloat16.
    On the held-out scenes it moves the embedded model's scores by an eighth of what bfloat16 moves them.
    """
    if dtype == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return resolve_dtype(dtype, device)


def is_exact(dtype: torch.dtype) -> bool:
    """Tell whether a type rounds no more than float32."""
    return dtype is torch.float32
