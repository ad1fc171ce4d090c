"""Device memory running out: halve the batch and try again, down to one item.

Knows no model; the device work comes in as a function.
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
"""What is no torch.OutOfMemoryError. Source: the messages of PyTorch, cuBLAS, cuDNN, cuSOLVER and cuSPARSE."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that a device, or the machine, has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # Libraries below PyTorch raise plain RuntimeErrors; no other type is read, because its text may quote a path.
    return isinstance(error, RuntimeError) and _SAID_BY_LIBRARIES.search(str(error)) is not None


def halve_when_full(
    run: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], what: str
) -> list[Result | DeviceOutOfMemory]:
    """Run a batch; if the device's memory does not hold it, run its halves one after the other.

    Args:
        run: the device work, one result per item in order; raises what `is_out_of_memory` knows when it does not fit.
        items: the batch; may be empty.
        what: the item's name in the message, such as "image".

    Returns:
        One entry per item in order; an item that does not fit even alone gets a DeviceOutOfMemory in its place, and
        the others are not touched by it.
    """
    if not items:
        return []
    try:
        return [*run(items)]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # Handled outside the block: the traceback would keep the failed forward's tensors alive.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if len(items) == 1:
        return [DeviceOutOfMemory(f"the device has not enough memory for one {what}")]
    middle = len(items) // 2
    logger.warning("out of device memory with %d x %s; trying %d", len(items), what, middle)
    return halve_when_full(run, items[:middle], what) + halve_when_full(run, items[middle:], what)
