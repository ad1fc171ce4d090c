"""The device and the types that a configuration selects, and a message for each cause why a GPU cannot be used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from serve_app.errors import CheckpointError
from serve_app.models import devices
from serve_app.models.cuda import CudaFacts, read_cuda, why_no_such, why_not

WORKS = CudaFacts(torch_version="2.14.1+cu130", built_for="13.0", devices=1, has_nvidia=True)
NO_DRIVER = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver"
OLD = "The NVIDIA driver on your system is too old (found version 12040). Please update your GPU driver"
"""Source: torch/csrc/cuda/Module.cpp and c10/cuda/CUDAFunctions.cpp."""

WITHOUT_CUDA = CudaFacts(torch_version="2.14.1+cpu", built_for=None, devices=0)
WITHOUT_DRIVER = replace(WORKS, devices=0, error=NO_DRIVER)
OLD_DRIVER = replace(WORKS, devices=0, error=OLD)
NOTHING_LENT = replace(WORKS, devices=0, error="No CUDA GPUs are available", visible="")
BROKEN = replace(WORKS, devices=0, error="CUDA unknown error", visible="0")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (WITHOUT_CUDA, ["this PyTorch (2.14.1+cpu) has no CUDA", "install one with CUDA", "set device to cpu"]),
        (WITHOUT_DRIVER, ["finds no NVIDIA driver; CUDA 13.0 needs", "580 or newer", "install it"]),
        (replace(WITHOUT_DRIVER, has_nvidia=False), ["no NVIDIA driver, and no NVIDIA device is seen", "container"]),
        (OLD_DRIVER, ["driver is too old; CUDA 13.0 needs", "580 or newer", "update it, or install a PyTorch", OLD]),
        (replace(OLD_DRIVER, built_for="12.8"), ["CUDA 12.8 needs an NVIDIA driver of version 525 or newer"]),
        (replace(OLD_DRIVER, built_for="14.0"), ["CUDA 14.0 needs an NVIDIA driver: update it"]),
        (replace(OLD_DRIVER, visible=""), ["driver is too old"]),
        (NOTHING_LENT, ["CUDA_VISIBLE_DEVICES is ''", "Ray has assigned it none", "num_gpus in ray_actor_options"]),
        (replace(NOTHING_LENT, visible="-1"), ["CUDA_VISIBLE_DEVICES is '-1'", "num_gpus"]),
        (BROKEN, ["CUDA does not work here with CUDA_VISIBLE_DEVICES '0'", "PyTorch says: CUDA unknown error"]),
        (replace(BROKEN, error=None, visible=None), ["CUDA does not work here; PyTorch says: no GPU is available"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_each_cause_has_its_own_words(facts: CudaFacts, words: list[str]) -> None:
    said = why_not(facts)
    assert said is not None
    assert [word for word in words if word not in said] == []
    assert why_no_such(facts, 0) == said
    for device in ("cuda", "cuda:0"):
        with pytest.raises(CheckpointError) as caught:
            devices.resolve_device(device, 0, lambda: facts)
        assert caught.value.message == f"device cuda:0: {said}"


@pytest.mark.parametrize(
    ("seen", "index", "count"), [(1, 1, "1 GPU,"), (2, 7, "2 GPUs,")], ids=["a second of one", "an eighth of two"]
)
def test_a_number_that_ray_does_not_lend_is_named(seen: int, index: int, count: str) -> None:
    facts = replace(WORKS, devices=seen)
    with pytest.raises(CheckpointError) as caught:
        devices.resolve_device(f"cuda:{index}", 0, lambda: facts)
    assert f"device cuda:{index}: this process sees {count} numbered from 0" in caught.value.message
    assert "write `cuda`" in caught.value.message
    with pytest.raises(CheckpointError, match=f"device cuda:{index}: this process sees"):
        devices.resolve_device("auto", index, lambda: facts)


@pytest.mark.parametrize(
    ("device", "cuda_device", "expected"),
    [("auto", 0, "cuda:0"), ("cuda", 1, "cuda:1"), ("cuda:1", 0, "cuda:1"), ("cpu", 1, "cpu")],
)
def test_a_device_that_is_there_is_taken(device: str, cuda_device: int, expected: str) -> None:
    facts = replace(WORKS, devices=2)
    assert why_not(facts) is None
    assert devices.resolve_device(device, cuda_device, lambda: facts) == torch.device(expected)


@pytest.mark.parametrize("facts", [OLD_DRIVER, WITHOUT_DRIVER, NOTHING_LENT, WITHOUT_CUDA])
def test_auto_warns_only_where_there_is_a_gpu_that_does_not_work(
    facts: CudaFacts, caplog: pytest.LogCaptureFixture
) -> None:
    assert devices.resolve_device("auto", 0, lambda: replace(facts, has_nvidia=False)) == torch.device("cpu")
    assert caplog.messages == []
    assert devices.resolve_device("auto", 0, lambda: replace(facts, has_nvidia=True)) == torch.device("cpu")
    (warned,) = caplog.messages
    assert warned.startswith("device auto: this machine has an NVIDIA GPU, but the model runs on the CPU: ")
    assert warned.endswith(str(why_not(replace(facts, has_nvidia=True))))


def test_a_cpu_is_taken_without_a_look_at_gpus() -> None:
    def read() -> CudaFacts:
        raise AssertionError("asked")

    assert devices.resolve_device("cpu", 3, read) == torch.device("cpu")


@pytest.mark.parametrize(
    "device", ["mps", "xpu", "xpu:1", "tpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "auto:1", "", "CUDA"]
)
def test_other_devices_are_refused(device: str) -> None:
    with pytest.raises(CheckpointError, match=rf"^device '{device}' is not supported; use auto, cpu, cuda or cuda:N$"):
        devices.resolve_device(device, 0, lambda: WORKS)


def test_this_machine_is_read(tmp_path: Path) -> None:
    facts = read_cuda({"CUDA_VISIBLE_DEVICES": "5"}, tmp_path)
    assert (facts.torch_version, facts.built_for) == (torch.__version__, torch.version.cuda)
    assert facts.devices == (torch.cuda.device_count() if torch.cuda.is_available() else 0)
    assert (facts.visible, facts.has_nvidia) == ("5", False)
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    assert read_cuda({}, tmp_path) == replace(facts, visible=None, has_nvidia=True)
    if torch.version.cuda and not torch.cuda.is_available():
        assert facts.error is not None
        assert "\n" not in facts.error
        assert why_not(facts) is not None


@pytest.mark.parametrize(
    ("dtype", "device", "expected"),
    [
        ("auto", "cpu", torch.float32),
        ("auto", "cuda:0", torch.bfloat16),
        ("float16", "cpu", torch.float16),
        ("float32", "cuda:0", torch.float32),
    ],
)
def test_resolve_dtype(dtype: str, device: str, expected: torch.dtype) -> None:
    assert devices.resolve_dtype(dtype, torch.device(device)) is expected


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((12, 0), torch.bfloat16)]
)
def test_auto_is_float16_on_a_gpu_without_bfloat16(
    capability: tuple[int, int], expected: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    assert devices.resolve_dtype("auto", torch.device("cuda:0"), lambda _: capability) is expected
    assert devices.resolve_dtype("bfloat16", torch.device("cuda:0"), lambda _: capability) is torch.bfloat16
    warned = ["this GPU, of compute capability 7.5, has no bfloat16: dtype auto is float16"]
    assert caplog.messages == (warned if expected is torch.float16 else [])


@pytest.mark.parametrize(
    ("dtype", "device", "expected"),
    [
        ("auto", "cpu", torch.float32),
        ("auto", "cuda:0", torch.float16),
        ("bfloat16", "cuda:0", torch.bfloat16),
        ("float16", "cpu", torch.float16),
        ("float32", "cuda:0", torch.float32),
    ],
)
def test_resolve_head_dtype(dtype: str, device: str, expected: torch.dtype) -> None:
    assert devices.resolve_head_dtype(dtype, torch.device(device)) is expected


def test_a_cpu_has_no_wall() -> None:
    assert devices.memory_wall(torch.device("cpu"), 0.5) is None
    assert devices.memory_wall(torch.device("cuda:0"), None) is None
    assert devices.cap_memory(torch.device("cpu"), 0.5) is None
