"""Where a checkpoint runs, and one clear line when it cannot be loaded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pickle import UnpicklingError

import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)
from safetensors import SafetensorError

from serve_app.errors import CheckpointError, GensegError
from serve_app.models.memory import is_out_of_memory

logger = logging.getLogger(__name__)

BFLOAT16_SINCE = (8, 0)
"""The first compute capability with bfloat16, Ampere. Source: NVIDIA, CUDA C++ Programming Guide."""

_GATED = (
    "access was refused: the weights are gated. Accept the licence on the model's hub page, then set HF_TOKEN "
    "to a token of that account, or give a local folder as model_name"
)
_NOT_ENOUGH_MEMORY = (
    "the device has not enough memory; use a smaller model, dtype bfloat16, another device, or a larger "
    "gpu_memory_fraction where one is set"
)

_REASONS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    (GatedRepoError, _GATED),
    (
        RepositoryNotFoundError,
        "the hub knows no such model; check the name, set HF_TOKEN if it is private, or give a local folder",
    ),
    (HFValidationError, "this is neither a folder nor a name of the hub, which looks like owner/name"),
    (RemoteEntryNotFoundError, "the checkpoint is incomplete: the hub lacks a file of it"),
)
"""What an error of the hub's own library means; the first that fits counts."""


@contextmanager
def explain(model_name: str) -> Iterator[None]:
    """Turn whatever loading a checkpoint raises into one line: which model, why, what to do.

    Raises:
        GensegError: what the block raises of this kind.
        CheckpointError: for every other failure inside the block.
    """
    try:
        yield
    except GensegError:
        raise
    except Exception as error:
        logger.debug("loading %s failed", model_name, exc_info=True)
        raise CheckpointError(f"model {model_name}: {_reason(error, model_name)}") from error


def _reason(error: BaseException, model_name: str) -> str:
    """Say why, by the types of the errors: their texts quote paths and addresses, which may say anything."""
    chain = list(_causes(error))
    for kinds, reason in _REASONS:
        if any(isinstance(link, kinds) for link in chain):
            return reason
    refusal = next((link for link in chain if isinstance(link, HfHubHTTPError)), None)
    if refusal is not None and refusal.response.status_code < 500:
        return _hub_refusal(refusal.response.status_code)
    if any(isinstance(link, LocalEntryNotFoundError | OfflineModeIsEnabled | HfHubHTTPError) for link in chain):
        return "the hub cannot be reached and the model is not in the local cache; give a local folder as model_name"
    if any(is_out_of_memory(link) for link in chain):
        return _NOT_ENOUGH_MEMORY
    if any(isinstance(link, SafetensorError | UnpicklingError) for link in chain):
        return "a weights file is damaged or half-downloaded; delete it and download it again"
    last = chain[-1]
    # transformers says this with a plain OSError. The name is taken out, because it may hold the same words.
    said = str(last).replace(model_name, "")
    if isinstance(last, OSError) and ("no file named" in said or "does not appear to have" in said):
        return f"the checkpoint is incomplete: {_first_line(str(last))}"
    return _first_line(f"{type(last).__name__}: {last}")


def _hub_refusal(status: int) -> str:
    if status == 401:
        return "the hub refuses the token in HF_TOKEN: it is wrong or has expired; set a valid one, or unset it"
    if status == 403:
        return (
            "the hub refuses access with this HF_TOKEN (status 403): the token may lack the permission to read gated "
            "repositories; see its settings on the hub, or give a local folder as model_name"
        )
    if status == 429:
        return "the hub refuses further downloads for now (status 429); wait, or set HF_TOKEN"
    return f"the hub refuses the download (status {status}); give a local folder as model_name"


def _causes(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


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


def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device) if torch.cuda.is_available() else BFLOAT16_SINCE


def resolve_dtype(
    dtype: str, device: torch.device, capability_of: Callable[[torch.device], tuple[int, int]] = _capability
) -> torch.dtype:
    """Turn a configured dtype into torch's.

    Args:
        dtype: as configured. `auto` is float32 on a CPU, bfloat16 on a GPU, and float16 on a GPU that lacks bfloat16.
        device: where the model will be.
        capability_of: tells a GPU's compute capability.
    """
    if dtype == "auto":
        if device.type != "cuda":
            return torch.float32
        capability = capability_of(device)
        if capability >= BFLOAT16_SINCE:
            return torch.bfloat16
        logger.warning("this GPU, of compute capability %d.%d, has no bfloat16: dtype auto is float16", *capability)
        return torch.float16
    resolved = getattr(torch, dtype)
    assert isinstance(resolved, torch.dtype)  # the configuration admits dtype names only
    return resolved


def resolve_head_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Turn a configured `head_dtype` into torch's.

    `auto` is float32 on a CPU and float16 on a GPU: every GPU that PyTorch supports has it, at the speed of bfloat16.
    On the held-out scenes it moves the embedded model's scores by an eighth of what bfloat16 moves them.
    """
    if dtype == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return resolve_dtype(dtype, device)


def cap_memory(device: torch.device, fraction: float | None) -> None:
    """Cap this process's share of a GPU's memory: replicas that share a GPU are otherwise not isolated."""
    if fraction is not None and device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(fraction, device)
