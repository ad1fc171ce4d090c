"""How the doctor reads its facts: from nvidia-smi's text, from files, from checkpoints, from the hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from serve_app.cli.doctor import probe, setup
from serve_app.config.files import app_config_from
from serve_app.models import locations
from serve_app.models.cuda import Card
from serve_app.models.hub import HubAnswer

MIB, GIB = 2**20, 2**30


@pytest.mark.parametrize(
    ("text", "cards", "driver"),
    [
        ("", (), None),
        ("No devices were found\n", (), None),
        (
            "NVIDIA L4, 23034, 1, 8.9, 580.65.06\nTesla T4, 15360, 300, 7.5, 580.65.06\n",
            (Card("NVIDIA L4", 23034 * MIB, (8, 9), MIB), Card("Tesla T4", 15360 * MIB, (7, 5), 300 * MIB)),
            "580.65.06",
        ),
        ("Old, 4096, [N/A], [N/A], 450.1\n", (Card("Old", 4096 * MIB),), "450.1"),
    ],
)
def test_nvidia_smi_is_read(text: str, cards: tuple[Card, ...], driver: str | None) -> None:
    assert probe.read_smi(text) == (cards, driver)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, (16 * GIB, 8 * GIB)),
        ({"memory.max": "max\n", "memory.current": "5\n"}, (16 * GIB, 8 * GIB)),
        ({"memory.max": f"{4 * GIB}\n", "memory.current": f"{GIB}\n"}, (4 * GIB, 3 * GIB)),
        ({"memory.max": f"{64 * GIB}\n", "memory.current": f"{GIB}\n"}, (16 * GIB, 8 * GIB)),
    ],
    ids=["no container", "no bound", "a bound", "a bound over what is there"],
)
def test_memory_is_that_of_the_container(tmp_path: Path, files: dict[str, str], expected: tuple[int, int]) -> None:
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (tmp_path / "proc").mkdir()
    kib = f"MemTotal: {16 * MIB} kB\nMemFree: 1 kB\nMemAvailable: {8 * MIB} kB\n"
    (tmp_path / "proc/meminfo").write_text(kib)
    for name, text in files.items():
        (group / name).write_text(text)
    assert probe.read_memory(tmp_path) == expected


def test_memory_is_known_without_these_files(tmp_path: Path) -> None:
    total, free = probe.read_memory(tmp_path)
    assert total >= free > 0


def test_this_machine_is_read() -> None:
    machine = probe.read_machine("3", ray_tmpdir="/elsewhere")
    assert machine.omp_threads == "3"
    assert machine.cores >= 1
    assert machine.memory_bytes >= machine.free_memory_bytes > 0
    assert machine.versions["torch"]
    assert machine.ray_files.free_bytes is not None
    assert machine.ray_files.place == Path("/elsewhere/ray")


def test_a_disk_is_known_before_its_folder_is_made(tmp_path: Path) -> None:
    disk = probe.disk_of(tmp_path / "a" / "b")
    assert disk.place == tmp_path / "a" / "b"
    assert disk.total_bytes is not None
    assert disk.total_bytes == shutil.disk_usage(tmp_path).total


def refuse(name: str) -> HubAnswer:
    raise AssertionError(f"the hub was asked about {name}")


def configured(segmenter: object, **parser: object) -> tuple[setup.Model, ...]:
    models = {
        "text_parser": {"model_name": "embedded", **parser},
        "segmentation": {"model_name": str(segmenter)},
        "identity": {"model_name": "none"},
    }
    return setup.read_models(app_config_from({"models": models}), refuse)


def test_the_embedded_models_are_counted() -> None:
    models = setup.read_models(app_config_from({}), refuse)
    assert [(model.role, model.place, model.fault) for model in models] == [
        ("parser", "embedded", None), ("segmenter", "embedded", None), ("identity", "embedded", None)
    ]  # fmt: skip
    for model in models:
        weights = load_file(Path(locations.resolve("embedded", model.role)) / "model.safetensors")
        assert model.parameters == sum(weight.numel() for weight in weights.values())


@pytest.fixture
def copy(small_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_checkpoint, tmp_path / "copy"))


def test_of_the_video_model_only_the_detector_is_counted(copy: Path) -> None:
    plain = configured(copy)[-1].parameters
    weights = {f"detector_model.{name}": each for name, each in load_file(copy / "model.safetensors").items()}
    tracker = {"tracker_model.x": next(iter(weights.values())).clone()}
    save_file({**weights, **tracker}, copy / "model.safetensors", {"format": "pt"})
    (copy / "config.json").write_text(json.dumps({"model_type": "sam3_video"}))
    assert configured(copy)[-1].parameters == plain


def test_shards_are_counted_together(copy: Path) -> None:
    whole = configured(copy)[-1].parameters
    weights = load_file(copy / "model.safetensors")
    first = dict([*weights.items()][:5])
    rest = dict([*weights.items()][5:])
    (copy / "model.safetensors").unlink()
    index = {}
    for number, part in enumerate((first, rest), 1):
        name = f"model-0000{number}-of-00002.safetensors"
        save_file(part, copy / name, {"format": "pt"})
        index.update(dict.fromkeys(part, name))
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert configured(copy)[-1].parameters == whole


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "incomplete: model.safetensors missing in"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x08" * 100), "damaged or half-downloaded"),
        (lambda folder: (folder / "config.json").write_text("{"), "damaged or half-downloaded"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: shutil.rmtree(folder), "there is no such folder"),
    ],
    ids=["no weights", "garbage", "broken config", "no config", "no folder"],
)
def test_what_a_folder_lacks_is_named(copy: Path, damage: Callable[[Path], object], words: str) -> None:
    damage(copy)
    model = configured(copy)[-1]
    assert model.fault is not None
    assert words in model.fault
    assert "\n" not in model.fault
    assert model.parameters is None


def test_the_hub_is_asked_about_what_is_not_here() -> None:
    document = {"models": {"segmentation": {"model_name": "owner/no-such-model"}}}
    answer = HubAnswer(None, True, 7)
    models = setup.read_models(app_config_from(document), lambda _: answer)
    found = {model.role: model for model in models}
    assert found["segmenter"].hub == answer
    assert (found["segmenter"].place, found["segmenter"].fault) == ("hub", None)


def test_a_parser_on_a_server_is_not_looked_for() -> None:
    models = configured("embedded", engine="openai", model_name="a name of the server's own")
    assert [model.role for model in models] == ["segmenter"]


def test_a_server_that_does_not_answer_is_named(unused_port: int) -> None:
    server = {"base_url": f"http://127.0.0.1:{unused_port}/v1", "max_retries": 0}
    document = {"models": {"text_parser": {"engine": "openai", "openai": server}}}
    fault = setup.server_fault(app_config_from(document))
    assert fault
    assert "\n" not in fault
    assert setup.server_fault(app_config_from({})) is None
