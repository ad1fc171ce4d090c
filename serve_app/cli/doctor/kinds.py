"""Checks which kinds of configuration this machine can run, for a user who has no configuration file yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from serve_app.cli.doctor.check import Check, gib
from serve_app.cli.doctor.machine import Machine
from serve_app.cli.doctor.model_checks import token_check
from serve_app.models import hub
from serve_app.models.cuda import why_not
from serve_app.models.devices import BFLOAT16_SINCE

GROUP = "configurations for a GPU"
GIB = 2**30
SEGMENTER = "facebook/sam3"
"""The segmenter of the shipped configurations for GPUs. Its weights are gated: the hub gives them only to accounts to
which access was granted."""


@dataclass(frozen=True)
class Kind:
    """A kind of configuration on one GPU.

    Attributes:
        name: the GPU's memory as its maker states it.
        models: the models that run on it.
        least_bytes: the memory that the smallest such GPU reports, which is less than its maker states.
    """

    name: str
    models: str
    least_bytes: int


KINDS = (
    Kind("24 GB card", "SAM3 and Qwen3-VL-4B, or SAM3 alone with the parser on a server", 22 * GIB),
    Kind("40 GB card", "SAM3 and Qwen3-VL-4B, with more memory for batches and caches", 39 * GIB),
    Kind("80 GB card", "SAM3 and Qwen3-VL-8B", 78 * GIB),
)


def kind_checks(machine: Machine) -> Iterator[Check]:
    """Check for each kind whether this machine can run it."""
    fault = why_not(machine.cuda)
    able = [card for card in machine.cards if card.capability is None or card.capability >= BFLOAT16_SINCE]
    largest = max((card.total_bytes for card in able), default=0)
    for kind in KINDS:
        if fault is not None:
            yield Check(GROUP, kind.name, "no", f"{kind.models}: CUDA does not work here")
        elif largest >= kind.least_bytes:
            yield Check(GROUP, kind.name, "ok", kind.models)
        else:
            best = f"the largest GPU with bfloat16 has {gib(largest)}" if able else "no GPU here has bfloat16"
            yield Check(GROUP, kind.name, "no", f"{kind.models}: {best}")


def find_shipped() -> hub.HubAnswer | None:
    """Return the hub's answer about SEGMENTER; None if the model is on this machine already."""
    if hub.cached_folder(SEGMENTER) is not None:
        return None
    return hub.HubAnswer(hub.OFFLINE, reached=False) if hub.is_offline() else hub.ask(SEGMENTER)


def shipped_checks(machine: Machine, answer: hub.HubAnswer | None) -> Iterator[Check]:
    """Check whether SEGMENTER can be loaded or downloaded.

    Args:
        machine: the facts.
        answer: what `find_shipped` returned.
    """
    if answer is None:
        yield Check("hub", SEGMENTER, "ok", "in the hub's local cache")
        return
    yield token_check(machine)
    if answer.fault is not None:
        yield Check("hub", SEGMENTER, "warn", answer.fault)
        return
    size = "" if answer.download_bytes is None else f", {gib(answer.download_bytes)}"
    free = "" if machine.model_cache.free_bytes is None else f"; {gib(machine.model_cache.free_bytes)} of disk is free"
    yield Check("hub", SEGMENTER, "ok", f"it can be downloaded from the hub{size}{free}")
