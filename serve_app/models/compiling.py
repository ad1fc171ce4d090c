"""torch.compile for a model that is served: few shapes, known before the first request, and one clear line if it fails.

Knows no model.
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
"""Shapes of one compiled function. PyTorch's own limit of 8 would be an error from 129 pairs on; powers of two up to
any batch are fewer than this."""

NEEDS = (
    "it needs a C and a C++ compiler (gcc, g++), Python's headers and, on a GPU, Triton and compute capability 7.0 or "
    "newer; install what is missing, or set models.segmentation.compile to false"
)

Item = TypeVar("Item")
Compile = Callable[[Callable[..., Any]], Callable[..., Any]]


def compiler(backend: str) -> Compile:
    """Return what compiles a function as one graph for each shape that it meets.

    Args:
        backend: of torch.compile.
    """
    as_one_graph = partial(torch.compile, fullgraph=True, dynamic=False, backend=backend)
    # An older PyTorch, as `make gpu` takes it too, may lack the parameter.
    takes_limit = "recompile_limit" in inspect.signature(torch.compile).parameters
    return partial(as_one_graph, recompile_limit=MOST_SHAPES) if takes_limit else as_one_graph


def check_compiler(model_name: str, device: torch.device, backend: str) -> None:
    """Compile one addition, so that a machine that cannot is refused before the weights are read.

    Raises:
        CheckpointError: it fails.
    """
    try:
        compiler(backend)(_add_one)(torch.zeros(8, device=device))
    except Exception as error:
        raise failed(model_name, error) from error


def failed(model_name: str, error: Exception, wall: MemoryWall | None = None) -> CheckpointError:
    """Say why a model could not be compiled or warmed up, and what to do.

    Args:
        model_name: as configured.
        error: what compiling or the warm-up raised.
        wall: the cap of this process on its GPU, which it may have run into.
    """
    if is_out_of_memory(error):
        memory = f"memory within {wall}" if wall else "the device's memory"
        return CheckpointError(
            f"model {model_name}: compile: {memory} does not hold the largest batch; lower "
            "batching.max_pairs and batching.max_pixels in args"
        )
    text = str(error.__cause__ or error).strip()
    reason = text.splitlines()[0][:300] if text else type(error).__name__
    return CheckpointError(f"model {model_name}: compile: {reason}; {NEEDS}")


def _add_one(numbers: torch.Tensor) -> torch.Tensor:
    return numbers + 1


class BatchSizes:
    """The sizes that batches are filled up to: powers of two, and the largest batch.

    Args:
        largest: items of the largest batch.
    """

    def __init__(self, largest: int) -> None:
        self._largest = max(1, largest)

    def __iter__(self) -> Iterator[int]:
        """Yield all sizes, the smallest first."""
        size = 1
        while size < self._largest:
            yield size
            size *= 2
        yield self._largest

    def fill(self, items: Sequence[Item]) -> list[Item]:
        """Repeat the last item up to the next size; a batch over the largest stays as it is.

        Args:
            items: at least one.
        """
        size = min(1 << (len(items) - 1).bit_length(), self._largest)
        return [*items, *[items[-1]] * (size - len(items))]
