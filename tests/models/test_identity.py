"""The identity model: both kinds of checkpoint, threshold, numbers, and one clear line for a wrong checkpoint."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import Dinov2Model

from serve_app.config.files import app_config_from
from serve_app.config.schema import AppConfig
from serve_app.embedded.identity import model as embedded
from serve_app.embedded.identity.evaluation import write_threshold
from serve_app.errors import CheckpointError, DeviceOutOfMemory, InternalError
from serve_app.models.identity import USUAL_THRESHOLD, DinoIdentity, load, resolve_dtype
from serve_app.models.interface import IdentityModel
from serve_app.models.registry import load_identity
from tests.models import small_identity

Make = Callable[[Path], Path]


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_identity.dinov2(tmp_path_factory.mktemp("dinov2"))


@pytest.fixture(scope="module")
def dinov3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_identity.dinov3(tmp_path_factory.mktemp("dinov3"))


@pytest.fixture
def copy(dinov2: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dinov2, tmp_path / "copy"))


def config(name: Path | str, **fields: Any) -> AppConfig:
    return app_config_from(
        {"models": {"identity": {"model_name": str(name), **fields}, "segmentation": {"device": "cpu"}}}
    )


def loaded(folder: Path, **fields: Any) -> DinoIdentity:
    model = load(config(folder, **fields))
    assert isinstance(model, DinoIdentity)
    return model


def crops(side: int, count: int = 3) -> list[NDArray[np.uint8]]:
    return [*np.random.default_rng(1).integers(0, 256, (count, side, side, 3), dtype=np.uint8)]


def embeddings(model: IdentityModel, given: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    rows = model.embed(given)
    assert all(isinstance(row, np.ndarray) for row in rows)
    return np.stack([row for row in rows if isinstance(row, np.ndarray)])


def test_dinov2_embeds_by_the_cls_token_as_its_training_does(dinov2: Path) -> None:
    given = crops(embedded.SIDE)
    stock = Dinov2Model.from_pretrained(dinov2, dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = embedded.embed(stock, torch.from_numpy(np.stack(given)).permute(0, 3, 1, 2)).numpy()
    found = embeddings(loaded(dinov2), given)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_dinov3_embeds_by_its_pooled_output(dinov3: Path) -> None:
    from transformers import DINOv3ViTImageProcessor, DINOv3ViTModel

    given = crops(small_identity.DINOV3_SIDE)
    processor, stock = DINOv3ViTImageProcessor.from_pretrained(dinov3), DINOv3ViTModel.from_pretrained(dinov3).eval()
    with torch.inference_mode():
        pixels = processor(images=[Image.fromarray(crop) for crop in given], return_tensors="pt")["pixel_values"]
        pooled = stock(pixels).pooler_output
    model = loaded(dinov3)
    assert (model.side, model.dimension) == (small_identity.DINOV3_SIDE, pooled.shape[1])
    np.testing.assert_allclose(
        embeddings(model, given), torch.nn.functional.normalize(pooled, dim=-1).numpy(), atol=1e-6
    )


def test_embeddings_have_length_1_and_do_not_depend_on_the_batch(dinov2: Path) -> None:
    model, given = loaded(dinov2), crops(embedded.SIDE, 5)
    together = embeddings(model, given)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.concatenate([embeddings(model, [crop]) for crop in given]), together, atol=1e-5)
    assert model.embed([]) == []


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_keeps_the_cosines(dinov2: Path, dtype: str) -> None:
    given = crops(embedded.SIDE, 6)
    exact, rounded = embeddings(loaded(dinov2), given), embeddings(loaded(dinov2, dtype=dtype), given)
    assert np.abs(exact @ exact.T - rounded @ rounded.T).max() < {"bfloat16": 0.02, "float16": 0.003}[dtype]


@pytest.mark.parametrize(
    ("dtype", "device", "model_type", "expected"),
    [
        ("auto", "cuda", "dinov2", torch.float16),
        ("auto", "cuda", "dinov3_vit", torch.bfloat16),
        ("auto", "cpu", "dinov2", torch.float32),
        ("float32", "cuda", "dinov3_vit", torch.float32),
        ("bfloat16", "cpu", "dinov2", torch.bfloat16),
    ],
)
def test_auto_computes_in_half_precision_on_a_gpu_only(
    dtype: str, device: str, model_type: str, expected: torch.dtype
) -> None:
    assert resolve_dtype(dtype, torch.device(device), model_type) is expected


def test_the_processor_of_the_checkpoint_decides_mean_and_deviation(copy: Path) -> None:
    given = crops(embedded.SIDE)
    before = embeddings(loaded(copy), given)
    small_identity.edit(copy, "preprocessor_config.json", image_mean=[0.1, 0.2, 0.3])
    assert np.abs(embeddings(loaded(copy), given) - before).max() > 1e-3


PUBLISHED: dict[str, dict[str, Any]] = {
    "dinov2": {
        "crop_size": {"height": 224, "width": 224}, "do_center_crop": True, "do_convert_rgb": True,
        "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": embedded.MEAN,
        "image_processor_type": "BitImageProcessor", "image_std": embedded.STD, "resample": 3,
        "rescale_factor": 1 / 255, "size": {"shortest_edge": 256},
    },
    "dinov3": {
        "crop_size": None, "do_center_crop": None, "do_convert_rgb": None, "do_normalize": True, "do_rescale": True,
        "do_resize": True, "image_mean": embedded.MEAN, "image_processor_type": "DINOv3ViTImageProcessorFast",
        "image_std": embedded.STD, "resample": 2, "rescale_factor": 1 / 255, "size": {"height": 224, "width": 224},
    },
}  # fmt: skip
"""Processor files of the shapes in which DINOv2 and DINOv3 are published on the hub."""


@pytest.mark.parametrize("kind", PUBLISHED)
def test_the_published_processors_take_crops_of_224_pixels(kind: str, tmp_path: Path) -> None:
    """DINOv2's resizes to 256 and crops to 224; an object stands in a square, so nothing of it may be cropped off."""
    folder = {"dinov2": small_identity.dinov2, "dinov3": small_identity.dinov3}[kind](tmp_path)
    (folder / "preprocessor_config.json").write_text(json.dumps(PUBLISHED[kind]))
    model = loaded(folder)
    assert model.side == 224
    edged = crops(224, 2)
    edged[1] = edged[0].copy()
    edged[1][:8] = 0  # outside of what a resize to 256 and a crop to 224 would leave
    first, second = embeddings(model, edged)
    assert np.abs(first - second).max() > 1e-4


@pytest.mark.parametrize(
    ("own", "configured", "expected"),
    [
        (None, None, USUAL_THRESHOLD),
        (0.71, None, 0.71),
        (0.71, 0.4, 0.4),
        (0.71, 0.0, 0.0),
        (None, -1.0, -1.0),
        (1, None, 1.0),
    ],
)
def test_the_configured_threshold_goes_before_the_checkpoints_own(
    copy: Path, own: float | None, configured: float | None, expected: float
) -> None:
    if own is not None:
        write_threshold(copy, own)
    model = loaded(copy, threshold=configured)
    assert model.described == {
        "model": str(copy),
        "pooling": "cls",
        "crop": "mask on grey, square, aspect kept",
        "threshold": expected,
    }


@pytest.mark.parametrize("own", ["0.5", 2, True, None])
def test_a_threshold_that_is_no_cosine_is_refused(copy: Path, own: object) -> None:
    small_identity.edit(copy, "config.json", genseg_threshold=own)
    with pytest.raises(CheckpointError, match=r"genseg_threshold in its config\.json must be a number from -1 to 1"):
        loaded(copy)


def test_numbers_that_are_not_finite_are_an_error_of_their_crop(dinov2: Path) -> None:
    model = loaded(dinov2)
    with torch.no_grad():
        model._model.layernorm.bias[3] = torch.nan
    assert [type(row) for row in model.embed(crops(embedded.SIDE, 2))] == [InternalError, InternalError]


def test_a_full_device_runs_smaller_batches(dinov2: Path) -> None:
    model = loaded(dinov2)
    given, sizes = crops(embedded.SIDE, 5), []
    expected = embeddings(model, given)
    forward = model._model.forward

    def full_over_two(pixels: torch.Tensor) -> Any:
        sizes.append(len(pixels))
        if len(pixels) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(pixels)

    model._model.forward = full_over_two
    np.testing.assert_allclose(embeddings(model, given), expected, atol=1e-5)
    assert max(sizes[1:]) < 5

    def always_full(_: torch.Tensor) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    model._model.forward = always_full
    assert [type(row) for row in model.embed(given)] == [DeviceOutOfMemory] * 5


def config_says(**values: object) -> Callable[[Path], None]:
    return lambda folder: small_identity.edit(folder, "config.json", **values)


def processor_says(**values: object) -> Callable[[Path], None]:
    return lambda folder: small_identity.edit(folder, "preprocessor_config.json", **values)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (config_says(model_type="vit"), "'vit', but the identity model needs 'dinov2' or 'dinov3_vit'"),
        (config_says(num_hidden_layers=6), "weights are missing"),
        (processor_says(crop_size={"height": 112, "width": 98}), "output is not square"),
        (lambda folder: (folder / "model.safetensors").unlink(), "the folder lacks model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x08" * 100), "damaged or half-downloaded"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "the folder lacks processor_config.json"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
    ],
)
def test_a_checkpoint_that_does_not_do_is_refused_in_one_line(
    copy: Path, damage: Callable[[Path], object], words: str
) -> None:
    damage(copy)
    with pytest.raises(CheckpointError) as caught:
        loaded(copy)
    assert words in caught.value.message
    assert caught.value.message.startswith(f"model {copy}: ")
    assert "\n" not in caught.value.message


def test_a_folder_that_is_not_there_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"model \./nowhere: there is no such folder"):
        load_identity(config("./nowhere"))


def test_none_loads_and_imports_nothing() -> None:
    code = """
import sys
from serve_app.config.files import app_config_from
from serve_app.models.registry import load_identity
for models in ({"identity": {"model_name": "none"}}, {"segmentation": {"model_name": "facebook/sam3"}}):
    assert load_identity(app_config_from({"models": models})) is None
assert not {"torch", "transformers"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_embedded_model_is_small_and_brings_its_threshold() -> None:
    model = load_identity(AppConfig())
    assert model is not None
    assert model.described["model"] == "embedded"
    assert model.described["threshold"] != USUAL_THRESHOLD
    assert sum(file.stat().st_size for file in embedded.CHECKPOINT_DIR.iterdir()) <= 3e6
