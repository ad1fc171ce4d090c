"""Settings that make training faster, mostly on a CPU."""

import ctypes

import torch


def fast_dtype(device: str = "cpu") -> torch.dtype:
    """Return the dtype for large matrix products: bfloat16 if the device multiplies it in hardware, else float32.

    Without such instructions, bfloat16 is emulated, on a CPU at a twentieth of the speed of float32.

    Args:
        device: `cpu` or `cuda`.
    """
    if device != "cpu":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def keep_freed_memory() -> None:
    """Make glibc keep freed memory. Otherwise, page faults of new activations take a fifth of a training step."""
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # Source: malloc.h
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, 2**31 - 1)
    libc.mallopt(top_pad, 2**28)
