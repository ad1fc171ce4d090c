"""Handles lack of device memory: halves the batch and tries again, down to one item.

Works for any model, because the work on the device is passed in as a function.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from serve_app.errors import DeviceOutOfMemory

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

_SAID_BY_LIBRARIES = re.compile(
    r"CUDA error: out of memory|CU(?:BLAS|DNN|SOLVER|SPARSE)_STATUS_ALLOC_FAILED|MPS backend out of memory"
    r"|DefaultCPUAllocator: (?:can't|not enough)|Cannot allocate memory"
)
"""Messages of errors that mean lack of memory but are not a torch.OutOfMemoryError.
Source: PyTorch, cuBLAS, cuDNN, cuSOLVER and cuSPARSE."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that a device or the machine has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # Libraries below PyTorch raise plain RuntimeErrors. Texts of other types are not read: they may quote a path.
    return isinstance(error, RuntimeError) and _SAID_BY_LIBRARIES.search(str(error)) is not None


def halve_when_full(
    run: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], what: str
) -> list[Result | DeviceOutOfMemory]:
    """Run a batch; if it does not fit into the device's memory, run its halves one after the other.

    Args:
        run: does the work on the device and returns one result per item, in order.
        items: the batch; may be empty.
        what: the name of an item in the message, such as "image".

    Returns:
        One entry per item, in order. If an item does not fit even alone, its entry is a DeviceOutOfMemory; the other
        items keep their results.
    """
    if not items:
        return []
    try:
        return [*run(items)]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # Continue outside this block, because inside it the traceback keeps the failed pass's tensors alive.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if len(items) == 1:
        return [DeviceOutOfMemory(f"not enough memory on the device for one {what}")]
    middle = len(items) // 2
    logger.warning("out of device memory with %d x %s; trying %d", len(items), what, middle)
    return halve_when_full(run, items[:middle], what) + halve_when_full(run, items[middle:], what)
