"""Compiles a model for a few batch sizes with torch.compile, before the first request. Its errors are one line each.

Works for any model.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import torch

from serve_app.errors import CheckpointError
from serve_app.models.devices import MemoryWall
from serve_app.models.memory import is_out_of_memory

MOST_SHAPES = 32
"""Largest number of shapes of one compiled function. Batch sizes are powers of two, except for the largest, so they are
fewer than this. PyTorch's default of 8 is too few for batches of more than 128 pairs."""

NEEDS = (
    "compiling needs a C and a C++ compiler (gcc, g++), Python's headers and, on a GPU, Triton and compute capability "
    "7.0 or newer; install what is missing, or set models.segmentation.compile to false"
)
"""The last part of the error message if compiling fails."""

Item = TypeVar("Item")
Compile = Callable[[Callable[..., Any]], Callable[..., Any]]


def compiler(backend: str) -> Compile:
    """Return a function that compiles another function, as one graph for each shape of its arguments.

    Args:
        backend: backend of torch.compile, such as "inductor".
    """
    as_one_graph = partial(torch.compile, fullgraph=True, dynamic=False, backend=backend)
    # `make gpu` also runs on older versions of PyTorch, which may lack the parameter.
    takes_limit = "recompile_limit" in inspect.signature(torch.compile).parameters
    return partial(as_one_graph, recompile_limit=MOST_SHAPES) if takes_limit else as_one_graph


def check_compiler(model_name: str, device: torch.device, backend: str) -> None:
    """Compile one addition, to find out before the weights are read whether this machine can compile.

    Args:
        model_name: the name as configured, for the message.
        device: the device that the model will use.
        backend: backend of torch.compile.

    Raises:
        CheckpointError: compiling fails.
    """
    try:
        compiler(backend)(_add_one)(torch.zeros(8, device=device))
    except Exception as error:
        raise failed(model_name, error) from error


def failed(model_name: str, error: Exception, wall: MemoryWall | None = None) -> CheckpointError:
    """Build the error that says why a model could not be compiled or warmed up, and what to do.

    Args:
        model_name: the name as configured.
        error: the exception that compiling or the warm-up raised.
        wall: the cap on this process's GPU memory; None if there is none.
    """
    if is_out_of_memory(error):
        memory = f"the memory within {wall}" if wall else "the device's memory"
        return CheckpointError(
            f"model {model_name}: compile: the largest batch does not fit into {memory}; lower "
            "batching.max_pairs and batching.max_pixels in args"
        )
    text = str(error.__cause__ or error).strip()
    reason = text.splitlines()[0][:300] if text else type(error).__name__
    return CheckpointError(f"model {model_name}: compile: {reason}; {NEEDS}")


def _add_one(numbers: torch.Tensor) -> torch.Tensor:
    return numbers + 1


class BatchSizes:
    """The batch sizes that are compiled: powers of two below the largest batch, and the largest batch.

    Args:
        largest: number of items in the largest batch; less than 1 counts as 1.

    >>> list(BatchSizes(6))
    [1, 2, 4, 6]
    >>> BatchSizes(6).fill(["a", "b", "c"])
    ['a', 'b', 'c', 'c']
    """

    def __init__(self, largest: int) -> None:
        self._largest = max(1, largest)

    def __iter__(self) -> Iterator[int]:
        """Yield all sizes, smallest first."""
        size = 1
        while size < self._largest:
            yield size
            size *= 2
        yield self._largest

    def fill(self, items: Sequence[Item]) -> list[Item]:
        """Repeat the last item until the batch has one of the sizes.

        Args:
            items: at least one. A batch above the largest size is returned unchanged.
        """
        size = min(1 << (len(items) - 1).bit_length(), self._largest)
        return [*items, *[items[-1]] * (size - len(items))]
