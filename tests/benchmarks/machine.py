"""What the figures were measured on: cores, CPU, versions, and what its matrix products reach."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "transformers", "ray", "numpy", "pycocotools", "pillow", "fastapi", "uvicorn")
BF16_FLAGS = ("amx_bf16", "avx512_bf16")
SIDE = 2048


def facts() -> dict[str, Any]:
    """Describe this machine and its software."""
    return {
        "cores": cores(),
        "cpu": _cpu_field("model name") or platform.processor(),
        "bf16_instructions": [flag for flag in BF16_FLAGS if flag in _cpu_field("flags").split()],
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "load_before": os.getloadavg()[0],
    }


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0))


def busy_s() -> float:
    """Sum the seconds that all cores have worked since the start of the machine. Source: proc_stat(5)."""
    user, nice, system, _, _, irq, softirq = Path("/proc/stat").read_text().split("\n")[0].split()[1:8]
    return sum(map(int, (user, nice, system, irq, softirq))) / os.sysconf("SC_CLK_TCK")


def has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 matrices itself."""
    flags = _cpu_field("flags").split()
    return any(flag in flags for flag in BF16_FLAGS)


def _cpu_field(name: str) -> str:
    """Read a field of the first core. Source: proc_cpuinfo(5); empty elsewhere than on Linux."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def matmul_gflops(dtype: str = "float32") -> float:
    """Measure what a large matrix product reaches, in GFLOP/s: the practical ceiling of dense layers."""
    import torch

    left, right = (torch.randn(SIDE, SIDE).to(getattr(torch, dtype)) for _ in range(2))
    torch.mm(left, right)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        torch.mm(left, right)
        best = min(best, time.perf_counter() - started)
    return 2 * SIDE**3 / best / 1e9
