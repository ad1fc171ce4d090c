"""How much memory models take on their device, and the time at which its work is done."""

from __future__ import annotations

import gc
import resource
import sys

import torch


def finish(device: torch.device) -> None:
    """Wait until a GPU has done its work; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release(device: torch.device) -> None:
    """Give back what nobody uses any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def lift_wall(device: torch.device) -> None:
    """Let this process take the whole GPU again, see devices.cap_memory."""
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def held_bytes(device: torch.device) -> int | None:
    """Return what PyTorch holds on a GPU now; None on a CPU."""
    return int(torch.cuda.memory_allocated(device)) if device.type == "cuda" else None


def start_peak(device: torch.device) -> None:
    """Begin to watch a GPU's peak; that of a process cannot be set back."""
    if device.type == "cuda":
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int:
    """Return the most that PyTorch held on a GPU since `start_peak`; on a CPU, the most that this process held ever."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def total_bytes(device: torch.device) -> int | None:
    """Return a GPU's memory; None for a CPU."""
    return int(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else None
