"""Measures how much memory models take on their device, and waits for a device to finish its work."""

from __future__ import annotations

import gc
import resource
import sys

import torch


def finish(device: torch.device) -> None:
    """Wait until a GPU has finished its work; return at once for a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release(device: torch.device) -> None:
    """Free memory that is no longer used: collect garbage, and empty PyTorch's cache on a GPU."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def lift_wall(device: torch.device) -> None:
    """Remove the cap that `devices.cap_memory` set on this process's share of a GPU."""
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def held_bytes(device: torch.device) -> int | None:
    """Return the bytes that PyTorch has allocated on a GPU now; None for a CPU."""
    return int(torch.cuda.memory_allocated(device)) if device.type == "cuda" else None


def start_peak(device: torch.device) -> None:
    """Reset the peak that `peak_bytes` returns. Works for a GPU only; the peak of a CPU process cannot be reset."""
    if device.type == "cuda":
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int:
    """Return the peak memory in bytes: on a GPU, PyTorch's since `start_peak`; on a CPU, the process's so far."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def total_bytes(device: torch.device) -> int | None:
    """Return the size of a GPU's memory in bytes; None for a CPU."""
    return int(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else None
