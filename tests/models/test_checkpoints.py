"""Loading checkpoints: the layout of the video model, and one clear line for every fault of a checkpoint."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from pickle import UnpicklingError
from types import SimpleNamespace

import httpx2
import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils._http import default_client_factory, hf_raise_for_status
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from serve_app.config.models import SegmentationModel, TextParserModel
from serve_app.config.schema import DeviceConfig
from serve_app.errors import CheckpointError
from serve_app.models import checkpoints, locations
from serve_app.models.devices import MemoryWall
from serve_app.models.qwen3_vl import EntityParser
from serve_app.models.sam3 import Sam3Segmenter


def load(folder: Path | str, **fields: object) -> Sam3Segmenter:
    return Sam3Segmenter.load(SegmentationModel(model_name=str(folder), device="cpu", **fields), DeviceConfig())


def load_parser(folder: Path | str) -> EntityParser:
    return EntityParser.load(TextParserModel(model_name=str(folder), device_map="cpu"), DeviceConfig())


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
def test_load_says_what_is_wrong_in_one_line(copy: Path, damage: Callable[[Path], object], words: str) -> None:
    damage(copy)
    with pytest.raises(CheckpointError) as raised:
        load(copy)
    assert str(copy) in raised.value.message
    assert words in raised.value.message
    assert "\n" not in raised.value.message


def test_load_names_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        load(tmp_path / "nothing")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, dict[str, str]], None]]:
    """Sets what the hub answers to everything; the libraries and their errors are the real ones."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    # The library asks six times, and waits 23 s in all.
    at_once = SimpleNamespace(**{**vars(time), "sleep": lambda _: None})
    monkeypatch.setattr("huggingface_hub.utils._http.time", at_once)

    def answers(status: int, headers: dict[str, str]) -> None:
        transport = httpx2.MockTransport(lambda request: httpx2.Response(status, headers=headers, request=request))
        huggingface_hub.set_client_factory(lambda: httpx2.Client(transport=transport))

    yield answers
    huggingface_hub.set_client_factory(default_client_factory)


GATED = {"X-Error-Code": "GatedRepo"}
UNKNOWN = {"X-Error-Code": "RepoNotFound"}
TOKEN_PLACE = "HF_TOKEN must be set where Ray is started: before `ray start`, on every node, or for this command"


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        pytest.param(401, GATED, r"licence.*HF_TOKEN.*local folder", id="gated, no token"),
        pytest.param(403, GATED, r"licence.*HF_TOKEN.*local folder", id="gated, not accepted"),
        pytest.param(401, UNKNOWN, "has no such model", id="unknown, no token"),
        pytest.param(401, {}, "has no such model", id="unknown, without a code"),
        pytest.param(404, UNKNOWN, "has no such model", id="unknown, with a token"),
        pytest.param(
            401,
            {"X-Error-Message": "Invalid credentials in Authorization header"},
            "refuses the token in HF_TOKEN",
            id="wrong token",
        ),
        pytest.param(
            403,
            {"X-Error-Message": "Please enable access to public gated repositories"},
            "HF_TOKEN.*permission",
            id="token without permission",
        ),
        pytest.param(404, {"X-Error-Code": "EntryNotFound"}, "incomplete: config.json", id="no configuration"),
        pytest.param(401, GATED, TOKEN_PLACE, id="gated: where the token must be"),
        pytest.param(404, UNKNOWN, TOKEN_PLACE, id="unknown: where the token must be"),
        pytest.param(403, {}, TOKEN_PLACE, id="forbidden: where the token must be"),
        pytest.param(429, {"Retry-After": "0"}, "refuses further downloads for now .status 429.; wait", id="too many"),
        pytest.param(500, {}, "the hub cannot be reached", id="hub broken"),
        pytest.param(503, {}, "the hub cannot be reached", id="hub down"),
    ],
)
def test_load_says_what_the_hub_says(
    status: int, headers: dict[str, str], words: str, hub: Callable[[int, dict[str, str]], None]
) -> None:
    hub(status, headers)
    with pytest.raises(CheckpointError, match=f"^model owner/exp-403-oom: .*{words}") as caught:
        load("owner/exp-403-oom")
    assert ("gated. Accept" in caught.value.message) == (headers is GATED)
    assert "\n" not in caught.value.message


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("load_from", [load, lambda name: load_parser(Path(name))], ids=["segmenter", "parser"])
def test_load_says_that_nothing_answers(load_from: Callable[[str], object]) -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("Connection refused", request=request)

    huggingface_hub.set_client_factory(lambda: httpx2.Client(transport=httpx2.MockTransport(refuse)))
    with pytest.raises(CheckpointError, match=r"^model owner/name: the hub cannot be reached and the model is not in"):
        load_from("owner/name")


def test_load_says_that_the_hub_may_not_be_asked(
    hub: Callable[[int, dict[str, str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    hub(200, {})
    with pytest.raises(CheckpointError, match=r"^model owner/name: the hub cannot be reached and .* local cache"):
        load("owner/name")


def hub_error(status: int, **headers: str) -> Exception:
    """The error that the hub's library makes of an answer."""
    request = httpx2.Request("GET", "https://huggingface.co/owner/name/resolve/main/config.json")
    try:
        hf_raise_for_status(httpx2.Response(status, headers=headers, request=request))
    except Exception as error:
        return error
    raise AssertionError("no error")


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (hub_error(429), "refuses further downloads for now"),
        (hub_error(400), "status 400"),
        (hub_error(500), "cannot be reached"),
        (LocalEntryNotFoundError("nothing"), "cannot be reached"),
        (OfflineModeIsEnabled("offline"), "cannot be reached.*HF_HUB_OFFLINE forbids"),
        (HFValidationError("x"), "neither a local folder nor a hub name"),
        (hub_error(404, **{"X-Error-Code": "EntryNotFound"}), "lacks a file"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "not enough memory"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            "not enough memory",
        ),
        (MemoryError(), "not enough memory"),
        (SafetensorError("header too large"), "damaged"),
        (UnpicklingError("bad"), "damaged"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_explain_judges_by_the_type_of_the_cause(cause: Exception, words: str) -> None:
    def loading() -> None:
        with checkpoints.explain("m"):
            raise OSError("something about it") from cause

    with pytest.raises(CheckpointError, match=f"^model m: .*{words}"):
        loading()


FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.27 GiB. GPU 0 has a total capacity of 22.5 GiB")


@pytest.mark.parametrize(
    ("wall", "error", "message"),
    [
        (
            MemoryWall(0.33, int(22.5 * 2**30)),
            FULL,
            "not enough memory within gpu_memory_fraction 0.33 (7.4 of 22.5 GiB); it asked for 8.27 GiB more; "
            "raise gpu_memory_fraction, or use a smaller model or dtype bfloat16",
        ),
        (
            MemoryWall(0.5, 2**34),
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"),
            "not enough memory within gpu_memory_fraction 0.5 (8.0 of 16.0 GiB); "
            "raise gpu_memory_fraction, or use a smaller model or dtype bfloat16",
        ),
        (
            None,
            FULL,
            "not enough memory on the device; it asked for 8.27 GiB more; use a smaller model, dtype bfloat16, or "
            "another device",
        ),
    ],
    ids=["a wall", "a library below PyTorch", "no wall"],
)
def test_a_lack_of_memory_names_the_wall(wall: MemoryWall | None, error: Exception, message: str) -> None:
    with pytest.raises(CheckpointError) as caught, checkpoints.explain("m", wall):
        raise error
    assert caught.value.message == f"model m: {message}"


@pytest.mark.parametrize(
    "error",
    [
        OSError("/data/exp-403/gated repo/out of memory: 401 Client Error"),
        ValueError("couldn't connect, offline mode, header safetensors, GatedRepoError"),
        RuntimeError("cannot read /models/out of memory/no file named"),
        KeyError("CUBLAS_STATUS_ALLOC_FAILED"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_explain_does_not_judge_by_words_in_a_path(error: Exception) -> None:
    with pytest.raises(CheckpointError) as caught, checkpoints.explain("m"):
        raise error
    assert caught.value.message == f"model m: {type(error).__name__}: {error}"


@pytest.mark.parametrize("name", ["exp-403", "gated repo", "out of memory", "no file named x", "401 client error"])
@pytest.mark.parametrize("load_from", [load, load_parser], ids=["segmenter", "parser"])
def test_an_incomplete_folder_of_any_name_is_called_incomplete(
    name: str, load_from: Callable[[Path], object], tmp_path: Path
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    model_type = "sam3" if load_from is load else "qwen3_vl"
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(CheckpointError) as caught:
        load_from(folder)
    assert caught.value.message == (
        f"model {folder}: the checkpoint is incomplete: the folder lacks model.safetensors, tokenizer.json, "
        "processor_config.json; download it again"
    )


def test_a_missing_shard_is_named(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    shards = {f"w{n}": f"model-0000{n}-of-00009.safetensors" for n in range(1, 10)}
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (copy / shards["w1"]).touch()
    with pytest.raises(CheckpointError, match=r"the folder lacks model-00002-of-00009.safetensors, .* and 5 more;"):
        load(copy)


@pytest.mark.parametrize(
    ("load_from", "model_type", "words"),
    [
        (load, "qwen3_vl", r"model_type 'qwen3_vl', but the segmenter needs 'sam3' or 'sam3_video'"),
        (load, "sam3_tracker", r"model_type 'sam3_tracker', but the segmenter needs"),
        (load, None, "its config.json has no model_type, but the segmenter needs"),
        (load_parser, "sam3_video", r"model_type 'sam3_video', but the text parser needs 'qwen3_vl'"),
        (load_parser, "qwen3_vl_moe", r"model_type 'qwen3_vl_moe', but the text parser needs 'qwen3_vl'"),
        (load_parser, "qwen2_5_vl", r"model_type 'qwen2_5_vl', but the text parser needs 'qwen3_vl'"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_before_its_weights_are_read(
    load_from: Callable[[Path], object], model_type: str | None, words: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "hidden_size": 8}))
    with pytest.raises(CheckpointError, match=words) as caught:
        load_from(tmp_path)
    assert str(tmp_path) in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("load_from", "kind", "found"),
    [(load, "parser", "qwen3_vl"), (load_parser, "segmenter", "sam3")],
    ids=["parser as segmenter", "segmenter as parser"],
)
def test_exchanged_models_are_named(load_from: Callable[[Path], object], kind: locations.Kind, found: str) -> None:
    with pytest.raises(CheckpointError, match=f"model_type '{found}'"):
        load_from(Path(locations.resolve("embedded", kind)))
