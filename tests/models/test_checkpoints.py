"""Loading: the video model's layout, and one clear line for everything that is wrong with a checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from serve_app.config.schema import DeviceConfig, SegmentationModel
from serve_app.errors import CheckpointError
from serve_app.models import checkpoints
from serve_app.models.sam3 import Sam3Segmenter


def load(folder: Path | str, **fields: object) -> Sam3Segmenter:
    return Sam3Segmenter.load(SegmentationModel(model_name=str(folder), device="cpu", **fields), DeviceConfig())


@pytest.fixture
def copy(small_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_checkpoint, tmp_path / "copy"))


def as_video_checkpoint(folder: Path) -> None:
    """Rewrite a checkpoint the way facebook/sam3 is published: the detector under a prefix, beside a tracker."""
    config = json.loads((folder / "config.json").read_text())
    video = {
        "architectures": ["Sam3VideoModel"],
        "model_type": "sam3_video",
        "detector_config": config,
        "tracker_config": {"model_type": "sam3_tracker_video"},
    }
    (folder / "config.json").write_text(json.dumps(video))
    weights = {f"detector_model.{name}": weight for name, weight in load_file(folder / "model.safetensors").items()}
    weights["tracker_model.mask_decoder.iou_token.weight"] = torch.zeros(1, 8)
    weights["tracker_neck.fpn_layers.0.proj1.weight"] = torch.zeros(2, 2)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_load_takes_the_detector_out_of_the_video_models_layout(small_checkpoint: Path, copy: Path) -> None:
    as_video_checkpoint(copy)
    plain, video = load(small_checkpoint), load(copy)
    expected, actual = plain._model.state_dict(), video._model.state_dict()
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def test_load_refuses_a_checkpoint_that_lacks_weights(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    del weights["detr_decoder.query_embed.weight"]
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"weights are missing.*query_embed"):
        load(copy)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "incomplete"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "JSON"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x08" * 100), "damaged or half-downloaded"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(
                (folder / "model.safetensors").read_bytes()[:9999]
            ),
            "damaged or half-downloaded",
        ),
    ],
    ids=["no weights", "no config", "broken config", "garbage weights", "half-downloaded weights"],
)
def test_load_says_what_is_wrong_in_one_line(copy: Path, damage, words: str) -> None:
    damage(copy)
    with pytest.raises(CheckpointError) as raised:
        load(copy)
    assert str(copy) in raised.value.message
    assert words in raised.value.message
    assert "\n" not in raised.value.message


def test_load_names_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        load(tmp_path / "nothing")


def test_a_gated_model_says_what_to_do() -> None:
    class GatedRepoError(Exception):
        pass

    def refused() -> None:
        with checkpoints.explain("facebook/sam3"):
            try:
                raise GatedRepoError("401 Client Error")
            except GatedRepoError as error:
                raise OSError("You are trying to access a gated repo.") from error

    with pytest.raises(CheckpointError, match=r"facebook/sam3: .*licence.*HF_TOKEN.*local folder"):
        refused()


@pytest.mark.parametrize(
    ("device", "words"), [("cuda:7", "sees 0 GPUs"), ("tpu", "unknown")], ids=["no such gpu", "nonsense"]
)
def test_resolve_device_names_what_is_missing(device: str, words: str) -> None:
    if device == "cuda:7" and torch.cuda.device_count() > 7:
        words = "never"
        return
    with pytest.raises(CheckpointError, match=words if not torch.cuda.is_available() else ".*"):
        checkpoints.resolve_device(device, 0)


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
    assert checkpoints.resolve_dtype(dtype, torch.device(device)) is expected
