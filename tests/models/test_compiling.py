"""torch.compile: the sizes of batches, and one clear line where it cannot work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from serve_app.models.compiling import BatchSizes, check_compiler, failed
from serve_app.models.devices import MemoryWall

LOAD = """
from serve_app.config.models import SegmentationModel
from serve_app.config.schema import DeviceConfig
from serve_app.errors import CheckpointError
from serve_app.models.sam3 import Sam3Segmenter

try:
    Sam3Segmenter.load(SegmentationModel(device="cpu", compile=True), DeviceConfig())
except CheckpointError as error:
    print(error.message)
"""


@pytest.mark.parametrize(
    ("largest", "sizes"), [(1, [1]), (2, [1, 2]), (5, [1, 2, 4, 5]), (8, [1, 2, 4, 8]), (0, [1])], ids=str
)
def test_batch_sizes_are_powers_of_two_and_the_largest_batch(largest: int, sizes: list[int]) -> None:
    known = BatchSizes(largest)
    assert [*known] == sizes
    for count in range(1, max(1, largest) + 1):
        filled = known.fill([*range(count)])
        assert len(filled) == min(size for size in sizes if size >= count)
        assert filled == [*range(count), *[count - 1] * (len(filled) - count)]


def test_a_batch_over_the_largest_is_not_cut() -> None:
    assert BatchSizes(2).fill("abc") == ["a", "b", "c"]


def test_a_machine_without_a_compiler_is_refused_before_the_weights_are_read(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "CXX": "", "CC": ""}
    environment = {name: value for name, value in environment.items() if value}
    asked = subprocess.run([sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True, check=False)
    assert asked.stdout.startswith("model embedded: compile: InvalidCxxCompiler: No working C++ compiler found")
    assert asked.stdout.endswith("install what is missing, or set models.segmentation.compile to false\n")
    assert asked.stdout.count("\n") == 1


def test_a_backend_that_works_is_taken() -> None:
    check_compiler("some/model", torch.device("cpu"), "aot_eager")


def test_a_largest_batch_that_does_not_fit_says_what_to_lower() -> None:
    full = torch.OutOfMemoryError("CUDA out of memory")
    assert "within gpu_memory_fraction 0.5 (20.0 of 40.0 GiB)" in failed("m", full, MemoryWall(0.5, 40 << 30)).message
    message = failed("some/model", full).message
    assert "the largest batch does not fit into" in message
    assert "lower batching.max_pairs and batching.max_pixels in args" in message
