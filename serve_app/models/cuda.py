"""Finds out whether PyTorch can use CUDA in this process, and explains why not. Starts no work on a GPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

DRIVER_OF_CUDA = {11: 450, 12: 525, 13: 580}
"""The oldest driver version for each major version of CUDA.
Source: NVIDIA, "CUDA Compatibility", section on minor version compatibility."""

NVIDIA_DEVICES = ("dev/nvidia0", "proc/driver/nvidia")
"""Paths on Linux. At least one exists if the machine has an NVIDIA GPU and its kernel driver is loaded."""


@dataclass(frozen=True)
class CudaFacts:
    """What this process can do with CUDA, read once.

    Attributes:
        torch_version: version of PyTorch.
        built_for: version of CUDA that PyTorch was built for, such as "13.0"; None for a PyTorch without CUDA.
        devices: number of GPUs that this process can use; 0 if CUDA does not work.
        error: first line of PyTorch's error if CUDA does not work; None if it works or PyTorch has no CUDA.
        visible: the variable CUDA_VISIBLE_DEVICES; None if it is not set.
        has_nvidia: whether this process sees an NVIDIA device of the machine.
    """

    torch_version: str
    built_for: str | None
    devices: int
    error: str | None = None
    visible: str | None = None
    has_nvidia: bool = False


def read_cuda(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> CudaFacts:
    """Find out what this process can do with CUDA.

    Args:
        environment: the environment variables of this process.
        root: the root of the file system.
    """
    works = torch.cuda.is_available()
    built_for = torch.version.cuda
    return CudaFacts(
        torch_version=str(torch.__version__),
        built_for=built_for,
        devices=torch.cuda.device_count() if works else 0,
        error=None if works or built_for is None else _said_by_torch(),
        visible=environment.get("CUDA_VISIBLE_DEVICES"),
        has_nvidia=any((root / path).exists() for path in NVIDIA_DEVICES),
    )


def _said_by_torch() -> str | None:
    try:
        torch.cuda.init()
    except Exception as error:  # a RuntimeError of PyTorch, or whatever a broken installation raises
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None


def why_not(facts: CudaFacts) -> str | None:
    """Explain why CUDA does not work, and what to do; return None if it works."""
    if facts.devices:
        return None
    if facts.built_for is None:
        return (
            f"this PyTorch ({facts.torch_version}) has no CUDA; install one with CUDA, see pytorch.org, or set device "
            "to cpu"
        )
    said = facts.error or ""
    needed = f"CUDA {facts.built_for} needs an NVIDIA driver{_at_least(facts.built_for)}"
    if "found no nvidia driver" in said.lower():
        machine = "" if facts.has_nvidia else ", and no NVIDIA device is seen: a container must be given one"
        return f"PyTorch finds no NVIDIA driver{machine}; {needed}: install it, or set device to cpu"
    if "too old" in said.lower():
        return (
            f"the NVIDIA driver is too old; {needed}: update it, or install a PyTorch for an older CUDA. "
            f"PyTorch says: {said}"
        )
    if facts.visible is not None and facts.visible.strip() in {"", "-1", "NoDevFiles"}:
        return (
            f"CUDA_VISIBLE_DEVICES is {facts.visible.strip()!r}, so this process sees no GPU: in a replica, Ray has "
            "assigned it none, so set the deployment's num_gpus in ray_actor_options; elsewhere, unset the variable"
        )
    hidden = "" if facts.visible is None else f" with CUDA_VISIBLE_DEVICES {facts.visible!r}"
    return f"CUDA does not work here{hidden}; PyTorch says: {said or 'no GPU is available'}"


def why_no_such(facts: CudaFacts, index: int) -> str | None:
    """Explain why there is no GPU with this number, and what to do; return None if there is one.

    Args:
        facts: from `read_cuda`.
        index: number of the GPU, from 0, among those that this process sees.
    """
    if not facts.devices:
        return why_not(facts)
    if index < facts.devices:
        return None
    count = "1 GPU" if facts.devices == 1 else f"{facts.devices} GPUs"
    return (
        f"this process sees {count}, numbered from 0; a Ray replica sees only the GPUs that Ray assigned to it "
        "(num_gpus): write `cuda`"
    )


def _at_least(built_for: str) -> str:
    major = built_for.partition(".")[0]
    least = DRIVER_OF_CUDA.get(int(major)) if major.isdigit() else None
    return "" if least is None else f" of version {least} or newer"


@dataclass(frozen=True)
class Card:
    """One GPU.

    Attributes:
        name: the product's name, such as "NVIDIA L4".
        total_bytes: size of its memory.
        capability: compute capability, such as (8, 9); None if it is not known.
        used_bytes: memory that all processes together use; None if it is not known.
    """

    name: str
    total_bytes: int
    capability: tuple[int, int] | None = None
    used_bytes: int | None = None


def cards() -> tuple[Card, ...]:
    """List the GPUs that this process can use, in the order of their numbers; empty if CUDA does not work."""
    if not torch.cuda.is_available():
        return ()
    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return tuple(Card(each.name, int(each.total_memory), (each.major, each.minor)) for each in found)


def oldest_capability() -> tuple[int, int] | None:
    """Return the oldest compute capability for which this PyTorch has kernels; None if it has none."""
    # The public get_arch_list() is empty if CUDA does not work.
    flags = torch._C._cuda_getArchFlags() if torch.version.cuda else ""
    numbers = [int(flag.removeprefix("sm_")) for flag in (flags or "").split() if flag.removeprefix("sm_").isdigit()]
    return divmod(min(numbers), 10) if numbers else None
