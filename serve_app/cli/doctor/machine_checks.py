"""Checks what the machine must have for every configuration. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from serve_app.cli.doctor.check import Check, Status, gib
from serve_app.cli.doctor.machine import Disk, Machine
from serve_app.models.cuda import Card, why_not
from serve_app.models.devices import BFLOAT16_SINCE
from serve_app.schemas.counted import counted

LITTLE_SHARED = 2**30
"""A smaller /dev/shm gets a warning. Ray keeps the images of requests there. By default a container has 64 MiB."""
FULL = 0.95
"""Ray stops writing objects when this fraction of its disk is used. Source: RAY_local_fs_capacity_threshold."""
BUSY = 0.1
"""A GPU gets a warning if other processes use more than this fraction of its memory."""


def machine_checks(machine: Machine, *, needs_gpu: bool | None = None) -> Iterator[Check]:
    """Check software, processor, GPUs and disks.

    Args:
        machine: the facts.
        needs_gpu: whether the configuration needs a GPU; None if there is no configuration file.
    """
    yield from _software(machine)
    yield _processor(machine)
    yield from _gpus(machine, needs_gpu)
    yield from _disks(machine)


def _software(machine: Machine) -> Iterator[Check]:
    there = ", ".join(f"{name} {version}" for name, version in machine.versions.items() if version)
    if machine.wrong_versions:
        found = ", ".join(machine.wrong_versions)
        yield Check("machine", "packages", "warn", found, "install genseg again, with its constraints.txt")
    else:
        yield Check("machine", "packages", "ok", there)


def _processor(machine: Machine) -> Check:
    memory = f"{gib(machine.memory_bytes)} of memory, {gib(machine.free_memory_bytes)} free"
    found = f"{counted(machine.cores, 'cores')}, {memory}"
    if machine.omp_threads is not None and machine.omp_threads != str(machine.cores):
        todo = "each model on a CPU uses that many threads; if you unset it, Ray sets it to num_cpus of each replica"
        return Check("machine", "CPU", "warn", f"{found}; OMP_NUM_THREADS is {machine.omp_threads!r}", todo)
    return Check("machine", "CPU", "ok", found)


def _gpus(machine: Machine, needs_gpu: bool | None) -> Iterator[Check]:
    cuda = machine.cuda
    driver = f"driver {machine.driver}, " if machine.driver else ""
    fault = why_not(cuda)
    if fault is None:
        built_for = f"PyTorch for CUDA {cuda.built_for}" if cuda.built_for else "PyTorch without CUDA"
        yield Check("GPU", "CUDA", "ok", f"{driver}{built_for}, {counted(cuda.devices, 'GPUs')} to use")
    elif needs_gpu is False and not cuda.has_nvidia:
        yield Check("GPU", "CUDA", "ok", "no GPU was found, and this configuration needs none")
    else:
        status: Status = "fail" if needs_gpu else "warn"
        yield Check("GPU", "CUDA", status, f"{driver}{fault}")
    for index, card in enumerate(machine.cards):
        yield _card(index, card, machine)


def _card(index: int, card: Card, machine: Machine) -> Check:
    name = f"cuda:{index}"
    found = f"{card.name}, {gib(card.total_bytes)}"
    if card.capability is None:
        return Check("GPU", name, "ok", found)
    found += f", compute capability {card.capability[0]}.{card.capability[1]}"
    oldest = machine.oldest_capability
    if oldest is not None and card.capability < oldest:
        found += f"; this PyTorch supports only {oldest[0]}.{oldest[1]} and newer"
        return Check("GPU", name, "fail", found, "install a PyTorch for an older CUDA, or use another GPU")
    if card.used_bytes is not None and card.used_bytes > BUSY * card.total_bytes:
        found += f"; other processes use {gib(card.used_bytes)} of it"
        return Check("GPU", name, "warn", found, "see nvidia-smi")
    if card.capability < BFLOAT16_SINCE:
        return Check("GPU", name, "warn", f"{found}; it has no bfloat16", "set dtype to auto or float16")
    return Check("GPU", name, "ok", found)


def _disks(machine: Machine) -> Iterator[Check]:
    shared = machine.shared_memory
    if shared is not None and shared.total_bytes is not None:
        found = f"/dev/shm has {gib(shared.total_bytes)}"
        if shared.total_bytes < LITTLE_SHARED:
            todo = "Ray keeps images in files instead; if this is a container, start it with --shm-size=4g or more"
            yield Check("disk", "shared memory", "warn", found, todo)
        else:
            yield Check("disk", "shared memory", "ok", found)
    yield _ray_files(machine.ray_files)


def _ray_files(disk: Disk) -> Check:
    if disk.free_bytes is None or not disk.total_bytes:
        return Check("disk", "Ray's files", "warn", f"{disk.place} cannot be read", "check the folder's permissions")
    found = f"{disk.place} has {gib(disk.free_bytes)} free"
    if disk.free_bytes < (1 - FULL) * disk.total_bytes:
        todo = (
            f"Ray stops writing objects when its disk is {FULL:.0%} full; free some space, or set RAY_TMPDIR to a "
            "folder on another disk"
        )
        return Check("disk", "Ray's files", "warn", found, todo)
    return Check("disk", "Ray's files", "ok", found)
