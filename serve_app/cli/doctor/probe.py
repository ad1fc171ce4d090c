"""Reads the facts about this machine. The only process that it starts is nvidia-smi. It does not use the network."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from serve_app.cli.doctor.machine import Disk, Machine
from serve_app.models import hub
from serve_app.models.cuda import Card, cards, oldest_capability, read_cuda

PACKAGES = ("torch", "transformers", "ray", "flash-attn", "xgrammar")
SMI_TIMEOUT_S = 5.0
SMI_FIELDS = ("name", "memory.total", "memory.used", "compute_cap", "driver_version")
"""Source: nvidia-smi --help-query-gpu."""
MIB = 2**20


def read_machine(omp_threads: str | None = None, *, cxx: str | None = None, ray_tmpdir: str | None = None) -> Machine:
    """Read the facts about this machine.

    Args:
        omp_threads: the variable OMP_NUM_THREADS.
        cxx: the variable CXX, which names PyTorch's C++ compiler; None for g++.
        ray_tmpdir: the variable RAY_TMPDIR, which Ray prefers to TMPDIR.
    """
    seen, driver = read_smi(_ask_smi())
    total, free = read_memory(Path("/"))
    shared = Path("/dev/shm")
    return Machine(
        cuda=read_cuda(),
        cards=_with_use(cards(), seen) or seen,
        driver=driver,
        oldest_capability=oldest_capability(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=total,
        free_memory_bytes=free,
        omp_threads=omp_threads,
        shared_memory=disk_of(shared) if shared.is_dir() else None,
        ray_files=disk_of(Path(ray_tmpdir or tempfile.gettempdir()) / "ray"),
        model_cache=disk_of(hub.cache_place()),
        compiler=next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None),
        cxx_compiler=shutil.which(cxx or "g++"),
        python_headers=(Path(sysconfig.get_path("include")) / "Python.h").is_file(),
        versions={"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        wrong_versions=tuple(_wrong_versions()),
        token=hub.has_token(),
        offline=hub.is_offline(),
    )


def disk_of(place: Path) -> Disk:
    """Read the disk space of a folder, which may not exist yet."""
    try:
        nearest = next(each for each in (place.absolute(), *place.absolute().parents) if each.exists())
        usage = shutil.disk_usage(nearest)
    except OSError:
        return Disk(place, None)
    return Disk(place, usage.free, usage.total)


def read_smi(text: str) -> tuple[tuple[Card, ...], str | None]:
    """Parse nvidia-smi's answer to a query for SMI_FIELDS.

    Args:
        text: a line of comma-separated values for each GPU, memory in MiB; empty if nvidia-smi failed.

    Returns:
        The GPUs, and the driver's version; None if no GPU is listed.

    >>> read_smi("NVIDIA H100, 81559, 4, 9.0, 570.1")[1]
    '570.1'
    """
    found: list[Card] = []
    driver: str | None = None
    for line in text.splitlines():
        values = [value.strip() for value in line.split(",")]
        if len(values) != len(SMI_FIELDS) or not values[1].isdigit():
            continue
        name, total, used, capability, driver = values
        major, _, minor = capability.partition(".")
        found.append(
            Card(
                name=name,
                total_bytes=int(total) * MIB,
                capability=(int(major), int(minor)) if major.isdigit() and minor.isdigit() else None,
                used_bytes=int(used) * MIB if used.isdigit() else None,
            )
        )
    return tuple(found), driver


def _with_use(found: tuple[Card, ...], seen: tuple[Card, ...]) -> tuple[Card, ...]:
    """Add the used memory from nvidia-smi to PyTorch's GPUs, if both list the same names in the same order."""
    if [card.name for card in found] != [card.name for card in seen]:
        return found
    return tuple(
        Card(card.name, card.total_bytes, card.capability, other.used_bytes)
        for card, other in zip(found, seen, strict=True)
    )


def _ask_smi() -> str:
    command = ["nvidia-smi", f"--query-gpu={','.join(SMI_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=SMI_TIMEOUT_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def read_memory(root: Path) -> tuple[int, int]:
    """Read the total and the available main memory, in bytes, within a container's limit.

    Args:
        root: the root folder of the file system.

    Source: proc_meminfo(5), and cgroup v2's memory.max and memory.current.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        found = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        total, free = found["MemTotal"], found["MemAvailable"]
    except (OSError, KeyError, ValueError, IndexError):
        total = free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        group = root / "sys/fs/cgroup"
        bound, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no cgroup v2, or no limit ("max")
        return total, free
    return min(total, bound), max(0, min(free, bound - used))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _wrong_versions() -> Iterator[str]:
    try:
        wanted = [Requirement(text) for text in metadata.requires("genseg") or ()]
    except metadata.PackageNotFoundError:  # this package runs from a folder and is not installed
        return
    for need in wanted:
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        there = _version(need.name)
        if there is None:
            yield f"{need.name} is missing"
        elif not need.specifier.contains(there, prereleases=True):
            yield f"{need.name} {there} (needs {need.specifier})"
