"""What PyTorch says of CUDA in this process, and in plain words why it cannot use it. Reading starts no GPU work."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

DRIVER_OF_CUDA = {11: 450, 12: 525, 13: 580}
"""The oldest driver of each major version of CUDA. Source: NVIDIA, CUDA Compatibility, minor version compatibility."""

NVIDIA_DEVICES = ("dev/nvidia0", "proc/driver/nvidia")
"""Of which one is there where the machine has an NVIDIA GPU and a kernel driver for it, on Linux."""


@dataclass(frozen=True)
class CudaFacts:
    """What was found, once.

    Attributes:
        torch_version: of PyTorch.
        built_for: version of CUDA that PyTorch was built for, such as "13.0"; None for a PyTorch without CUDA.
        devices: how many GPUs this process can use; 0 where CUDA does not work.
        error: first line of what PyTorch says where CUDA does not work; None where it works or PyTorch has none.
        visible: the variable CUDA_VISIBLE_DEVICES; None where it is not set.
        has_nvidia: whether the machine shows an NVIDIA device to this process.
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
        environment: of this process.
        root: of the file system.
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
    """Say why CUDA does not work, and what to do; None where it works."""
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
            f"CUDA_VISIBLE_DEVICES is {facts.visible.strip()!r}, so this process sees no GPU: in a Ray replica Ray has "
            "lent it none, so give the deployment num_gpus in ray_actor_options; elsewhere unset the variable"
        )
    hidden = "" if facts.visible is None else f" with CUDA_VISIBLE_DEVICES {facts.visible!r}"
    return f"CUDA does not work here{hidden}; PyTorch says: {said or 'no GPU is available'}"


def why_no_such(facts: CudaFacts, index: int) -> str | None:
    """Say why there is no GPU of this number, and what to do; None where there is one."""
    if not facts.devices:
        return why_not(facts)
    if index < facts.devices:
        return None
    count = "1 GPU" if facts.devices == 1 else f"{facts.devices} GPUs"
    return (
        f"this process sees {count}, numbered from 0; Ray lends a replica as many as its num_gpus, whichever they are: "
        "write `cuda`"
    )


def _at_least(built_for: str) -> str:
    major = built_for.partition(".")[0]
    least = DRIVER_OF_CUDA.get(int(major)) if major.isdigit() else None
    return "" if least is None else f" of version {least} or newer"


@dataclass(frozen=True)
class Card:
    """One GPU.

    Attributes:
        name: such as "NVIDIA L4".
        total_bytes: its memory.
        capability: compute capability; None where it is not known.
        used_bytes: of its memory, by all processes; None where it is not known.
    """

    name: str
    total_bytes: int
    capability: tuple[int, int] | None = None
    used_bytes: int | None = None


def cards() -> tuple[Card, ...]:
    """List the GPUs that this process can use, by their numbers; none where CUDA does not work."""
    if not torch.cuda.is_available():
        return ()
    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return tuple(Card(each.name, int(each.total_memory), (each.major, each.minor)) for each in found)


def oldest_capability() -> tuple[int, int] | None:
    """Return the oldest compute capability for which this PyTorch has kernels; None where it has none."""
    # get_arch_list() is empty where CUDA does not work.
    flags = torch._C._cuda_getArchFlags() if torch.version.cuda else ""
    numbers = [int(flag.removeprefix("sm_")) for flag in (flags or "").split() if flag.removeprefix("sm_").isdigit()]
    return divmod(min(numbers), 10) if numbers else None
