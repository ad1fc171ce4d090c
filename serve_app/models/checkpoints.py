"""Explains in one line why a checkpoint cannot be loaded, and what to do."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError

from safetensors import SafetensorError
from transformers.utils.logging import disable_progress_bar

from serve_app.errors import CheckpointError, GensegError
from serve_app.models.devices import MemoryWall
from serve_app.models.hub import said_by_hub
from serve_app.models.memory import is_out_of_memory

logger = logging.getLogger(__name__)

_TRIED = re.compile(r"Tried to allocate ([\d.]+ \w+)")
"""Source: PyTorch's message of an OutOfMemoryError, c10/cuda/CUDACachingAllocator.cpp."""


@contextmanager
def explain(model_name: str, wall: MemoryWall | None = None) -> Iterator[None]:
    """Turn every exception of the block into one line: which model, why, what to do.

    Args:
        model_name: the name as configured.
        wall: the cap on this process's GPU memory, for the message if memory runs out; None if there is none.

    Raises:
        GensegError: the block raised it; it passes unchanged.
        CheckpointError: the block raised another exception.
    """
    try:
        yield
    except GensegError:
        raise
    except Exception as error:
        logger.debug("loading %s failed", model_name, exc_info=True)
        raise CheckpointError(f"model {model_name}: {_reason(error, model_name, wall)}") from error


def _reason(error: BaseException, model_name: str, wall: MemoryWall | None) -> str:
    """Choose the reason by the types of the exceptions, because their texts quote paths that may contain any words."""
    chain = list(_causes(error))
    if reason := said_by_hub(chain):
        return reason
    full = next((link for link in chain if is_out_of_memory(link)), None)
    if full is not None:
        return _lacks_memory(full, wall)
    if any(isinstance(link, SafetensorError | UnpicklingError) for link in chain):
        return "a weights file is damaged or half-downloaded; delete it and download it again"
    last = chain[-1]
    # transformers raises a plain OSError for this. The model's name may contain the same words, so it is removed.
    said = str(last).replace(model_name, "")
    if isinstance(last, OSError) and ("no file named" in said or "does not appear to have" in said):
        return f"the checkpoint is incomplete: {_first_line(str(last))}"
    return _first_line(f"{type(last).__name__}: {last}")


def _lacks_memory(error: BaseException, wall: MemoryWall | None) -> str:
    tried = _TRIED.search(str(error))
    asked = f"; it asked for {tried[1]} more" if tried else ""
    if wall is None:
        return f"not enough memory on the device{asked}; use a smaller model, dtype bfloat16, or another device"
    return (
        f"not enough memory within {wall}{asked}; raise gpu_memory_fraction, or use a smaller model or dtype bfloat16"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:300] if text.strip() else "unknown reason"


def hide_loading_bar() -> None:
    """Switch off the progress bar that transformers draws while it loads weights; downloads keep theirs."""
    disable_progress_bar()


def check_complete(model_name: str, missing_keys: object, mismatched_keys: object = ()) -> None:
    """Refuse a checkpoint that lacks weights of the model. transformers would fill them with random numbers.

    Args:
        model_name: the name as configured, for the message.
        missing_keys: parameter names that the checkpoint lacks, as `from_pretrained` reports them.
        mismatched_keys: parameters whose shapes differ, as `from_pretrained` reports them.

    Raises:
        CheckpointError: a parameter is missing or has another shape.
    """
    lacking = sorted(str(key) for key in (*_sized(missing_keys), *_sized(mismatched_keys)))
    if lacking:
        raise CheckpointError(
            f"model {model_name}: the checkpoint does not fit the model: {len(lacking)} weights are missing or have "
            f"another shape, such as {lacking[0]}"
        )


def _sized(keys: object) -> tuple[object, ...]:
    return tuple(keys) if isinstance(keys, list | tuple | set | frozenset) else ()
