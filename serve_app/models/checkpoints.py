"""Where a checkpoint runs, and one clear line when it cannot be loaded."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from serve_app.errors import CheckpointError

logger = logging.getLogger(__name__)


@contextmanager
def explain(model_name: str) -> Iterator[None]:
    """Turn whatever loading a checkpoint raises into one line: which model, why, what to do.

    Raises:
        CheckpointError: for every failure inside the block.
    """
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        logger.debug("loading %s failed", model_name, exc_info=True)
        raise CheckpointError(f"model {model_name}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    chain = list(_causes(error))
    names = {type(link).__name__ for link in chain}
    text = " ".join(str(link) for link in chain)
    lowered = text.lower()
    if "GatedRepoError" in names or "gated repo" in lowered or "401 client error" in lowered or "403" in lowered:
        return (
            "access was refused: the weights are gated. Accept the licence on the model's hub page, then set HF_TOKEN "
            "to a token of that account, or give a local folder as model_name"
        )
    if "RepositoryNotFoundError" in names or "is not a valid model identifier" in lowered:
        return "the hub knows no such model; check the name, set HF_TOKEN if it is private, or give a local folder"
    if isinstance(error, torch.OutOfMemoryError) or "out of memory" in lowered:
        return "the device has not enough memory; use a smaller model, dtype bfloat16, or another device"
    if "SafetensorError" in names or "unpicklingerror" in lowered or ("header" in lowered and "safetensors" in lowered):
        return "a weights file is damaged or half-downloaded; delete it and download it again"
    if "LocalEntryNotFoundError" in names or "couldn't connect" in lowered or "offline mode" in lowered:
        return "the hub cannot be reached and the model is not in the local cache; give a local folder as model_name"
    if "no file named" in lowered or "does not appear to have a file" in lowered:
        return f"the checkpoint is incomplete: {_first_line(text)}"
    return _first_line(f"{type(chain[-1]).__name__}: {chain[-1]}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:300] if text.strip() else "unknown reason"


def check_complete(model_name: str, missing_keys: object, mismatched_keys: object = ()) -> None:
    """Refuse a checkpoint whose weights do not fill the model: the rest would be random numbers.

    Args:
        model_name: as configured, for the message.
        missing_keys: parameter names that the checkpoint lacks, as `from_pretrained` reports them.
        mismatched_keys: parameters whose shapes differ, likewise.

    Raises:
        CheckpointError: any is missing or mismatched.
    """
    lacking = sorted(str(key) for key in (*_sized(missing_keys), *_sized(mismatched_keys)))
    if lacking:
        raise CheckpointError(
            f"model {model_name}: the checkpoint does not fit: {len(lacking)} weights are missing or of another shape, "
            f"such as {lacking[0]}"
        )


def _sized(keys: object) -> tuple[object, ...]:
    return tuple(keys) if isinstance(keys, list | tuple | set | frozenset) else ()


def resolve_device(device: str, cuda_device: int) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `cuda:N` into a device.

    Args:
        device: as configured.
        cuda_device: index that `auto` and a bare `cuda` mean, among the GPUs this process sees.

    Raises:
        CheckpointError: a GPU is asked for that this process does not see.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise CheckpointError(f"device {device!r} is unknown; use auto, cpu, cuda or cuda:N") from None
    if wanted.type == "cuda":
        wanted = torch.device("cuda", cuda_device if wanted.index is None else wanted.index)
        seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if wanted.index >= seen:
            way_out = (
                f"Ray lends this replica {seen}, numbered from 0: write `cuda`"
                if seen
                else "set device to cpu, or give the deployment num_gpus"
            )
            raise CheckpointError(f"device {wanted}: this process sees {seen} GPUs; {way_out}")
    return wanted


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Turn a configured dtype into torch's; `auto` is bfloat16 on a GPU and float32 on a CPU."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    resolved = getattr(torch, dtype)
    assert isinstance(resolved, torch.dtype)  # the configuration admits dtype names only
    return resolved


def cap_memory(device: torch.device, fraction: float | None) -> None:
    """Cap this process's share of a GPU's memory: replicas that share a GPU are otherwise not isolated."""
    if fraction is not None and device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(fraction, device)
