"""Checks whether a configuration's models can be loaded, and whether they fit into memory. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from serve_app.cli.doctor.check import Check, gib
from serve_app.cli.doctor.machine import Machine
from serve_app.cli.doctor.setup import Model, Setup
from serve_app.config.models import Dtype
from serve_app.models.cuda import Card
from serve_app.models.devices import BFLOAT16_SINCE
from serve_app.models.hub import WHERE_TO_SET
from serve_app.schemas.counted import counted

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
PLACES = {"embedded": "ships inside the package", "folder": "in its folder", "cache": "in the hub's local cache"}
GROUP = "models"


def model_checks(machine: Machine, setup: Setup) -> Iterator[Check]:
    """Check the models of a configuration."""
    for model in setup.models:
        yield _place(model)
    if any(model.hub is not None for model in setup.models):
        yield token_check(machine)
    yield from _download(machine, setup.models)
    yield from _dtypes(machine, setup)
    yield from _memory(machine, setup)


def _place(model: Model) -> Check:
    if model.fault is not None:
        return Check(GROUP, model.role, "fail", f"{model.name}: {model.fault}")
    if model.hub is not None:
        size = "its size is not known"
        if model.hub.download_bytes is not None:
            size = f"{gib(model.hub.download_bytes)} at the first start"
        return Check(
            GROUP, model.role, "ok", f"{model.name}: not on this machine; it can be downloaded from the hub, {size}"
        )
    size = "" if model.parameters is None else f", {model.parameters / 1e6:,.1f} million parameters"
    return Check(GROUP, model.role, "ok", f"{model.name}: {PLACES[model.place]}{size}")


def token_check(machine: Machine) -> Check:
    """Check whether this machine has a token for the model hub."""
    if machine.token:
        return Check("hub", "token", "ok", "HF_TOKEN is set, or `hf auth login` has saved one")
    return Check("hub", "token", "warn", f"there is none, so gated models cannot be downloaded; {WHERE_TO_SET}")


def _download(machine: Machine, models: Sequence[Model]) -> Iterator[Check]:
    absent = {model.name: model.hub for model in models if model.hub is not None and model.hub.reached}
    if not absent:
        return
    free = machine.model_cache.free_bytes
    if free is None:
        yield Check("disk", "downloads", "warn", f"{machine.model_cache.place} cannot be read", "check HF_HOME")
        return
    sizes = [answer.download_bytes for answer in absent.values()]
    known = sum(size for size in sizes if size is not None)
    unknown = " and models of unknown size" if None in sizes else ""
    found = f"{machine.model_cache.place} has {gib(free)} free for {gib(known)}{unknown}"
    if known > free:
        yield Check("disk", "downloads", "fail", found, "free some space, or set HF_HOME to a folder on another disk")
    else:
        yield Check("disk", "downloads", "ok", found)


def _dtypes(machine: Machine, setup: Setup) -> Iterator[Check]:
    segmentation = setup.config.models.segmentation
    wanted: list[tuple[str, str, Dtype]] = [(model.role, model.device, model.dtype) for model in setup.models]
    wanted.append(("segmenter's head", segmentation.device, segmentation.head_dtype))
    for role, device, dtype in wanted:
        card = card_of(device, machine, setup.config.device.cuda_device)
        if dtype != "bfloat16" or card is None or card.capability is None or card.capability >= BFLOAT16_SINCE:
            continue
        found = f"the configuration sets bfloat16, which {card.name} computes slowly or not at all"
        yield Check(GROUP, f"{role} dtype", "warn", found, "set auto or float16")


def card_of(device: str, machine: Machine, cuda_device: int) -> Card | None:
    """Return the GPU of this machine that a configured device means; None for a CPU or a missing GPU."""
    kind, _, number = device.partition(":")
    index = int(number) if number.isdecimal() else cuda_device
    on_gpu = kind == "cuda" or (kind == "auto" and machine.cuda.devices > 0)
    return machine.cards[index] if on_gpu and index < len(machine.cards) else None


def loading_bytes(model: Model, *, on_gpu: bool) -> int | None:
    """Return the bytes that a model's weights take while it loads; None if the weights are not on this machine.

    The segmenter's weights are moved to its device as float32, and are converted there.
    """
    if model.parameters is None:
        return None
    dtype = model.dtype if model.dtype != "auto" else ("bfloat16" if on_gpu else "float32")
    return model.parameters * (BYTES["float32"] if model.role == "segmenter" else BYTES[dtype])


def _memory(machine: Machine, setup: Setup) -> Iterator[Check]:
    cuda_device = setup.config.device.cuda_device
    for model in setup.models:
        card = card_of(model.device, machine, cuda_device)
        needed = loading_bytes(model, on_gpu=card is not None)
        if model.role == "identity":  # small, and in the segmenter's process
            continue
        if card is not None:
            cache = setup.config.cache.vision_bytes if model.role == "segmenter" else 0
            yield _on_card(model, card, needed, cache)
        elif needed is not None and needed > machine.free_memory_bytes:
            found = f"its weights take {gib(needed)}, and {gib(machine.free_memory_bytes)} of main memory is free"
            yield Check(
                GROUP, f"{model.role} memory", "fail", found, "use a smaller model or a machine with more memory"
            )
    yield from _shares(machine, setup)


def _on_card(model: Model, card: Card, needed: int | None, cache: int) -> Check:
    name = f"{model.role} memory"
    budget = card.total_bytes * (model.fraction or 1.0)
    share = f"gpu_memory_fraction {model.fraction:g} of {gib(card.total_bytes)}" if model.fraction else "the whole GPU"
    of = f"{gib(budget)} ({share})"
    if needed is None:
        return Check(GROUP, name, "ok", f"not known before the model is downloaded; the model may use {of}")
    if needed > budget:
        least = needed / card.total_bytes
        remedy = f"raise gpu_memory_fraction above {least:.2f}" if least < 1 else "use another GPU"
        found = f"loading the weights takes {gib(needed)}, but the model may use only {of}"
        return Check(GROUP, name, "fail", found, f"{remedy}, or use a smaller model")
    if needed + cache > budget:
        found = f"{gib(needed)} of weights and {gib(cache)} of cache do not fit into {of}"
        return Check(GROUP, name, "fail", found, "lower cache.vision_bytes, or raise gpu_memory_fraction")
    left = budget - needed - cache
    held = f"{gib(needed)} of weights" + (f" and {gib(cache)} of cache" if cache else "")
    return Check(
        GROUP, name, "ok", f"{held} fit into {of}; {gib(left)} are left for batches (--load measures what batches take)"
    )


def _shares(machine: Machine, setup: Setup) -> Iterator[Check]:
    """Check the memory fractions of models that share the machine's only GPU."""
    cuda_device = setup.config.device.cuda_device
    sharing = [
        model
        for model in setup.models
        if model.role != "identity" and card_of(model.device, machine, cuda_device) is not None
    ]
    if len(machine.cards) != 1 or len(sharing) < 2:
        return
    fractions = [model.fraction for model in sharing]
    found = f"{counted(len(sharing), 'models')} on one card"
    given = [fraction for fraction in fractions if fraction is not None]
    if len(given) < len(fractions):
        todo = "set gpu_memory_fraction of each; without it a model may take memory that the other needs"
        yield Check(GROUP, "shared card", "warn", f"{found}, and not each has a limit", todo)
    elif sum(given) > 1:
        found += f"; the values of gpu_memory_fraction add up to {sum(given):g}"
        yield Check(
            GROUP, "shared card", "fail", found, "lower them to a sum of 0.95 or less; CUDA itself takes the rest"
        )
    else:
        yield Check(GROUP, "shared card", "ok", f"{found}; the values of gpu_memory_fraction add up to {sum(given):g}")
