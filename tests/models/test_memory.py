"""Errors of a full memory are recognised, whichever library raises them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from serve_app.errors import DeviceOutOfMemory
from serve_app.models.memory import halve_when_full, is_out_of_memory

FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("MPS backend out of memory (MPS allocated: 10 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried 1 bytes"),
    MemoryError(),
]
OTHER = [
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"),
    OSError("CUDA error: out of memory"),
    ValueError("MPS backend out of memory"),
]


@pytest.mark.parametrize("error", FULL, ids=str)
def test_a_batch_that_does_not_fit_is_halved(error: Exception) -> None:
    def run(items: Sequence[int]) -> list[int]:
        if len(items) > 2 or 7 in items:
            raise error
        return [*items]

    assert is_out_of_memory(error)
    outcomes = halve_when_full(run, [1, 2, 3, 7, 5], "image")
    assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [1, 2, 3, 5]
    assert isinstance(outcomes[3], DeviceOutOfMemory)


@pytest.mark.parametrize("error", OTHER, ids=str)
def test_other_errors_are_not_taken_for_a_full_memory(error: Exception) -> None:
    def run(_: Sequence[int]) -> list[int]:
        raise error

    assert not is_out_of_memory(error)
    with pytest.raises(type(error)):
        halve_when_full(run, [1, 2], "image")
