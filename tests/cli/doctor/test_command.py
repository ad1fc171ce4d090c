"""`genseg doctor` from end to end on this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest

from serve_app.cli.doctor.check import Check
from serve_app.cli.doctor.report import Row, as_json, check_lines, conclusion, table_lines
from serve_app.cli.main import main
from tests.models.test_hub import a_hub

ROOT = Path(__file__).parent.parent.parent.parent
Doctor = Callable[..., tuple[int, str]]


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Doctor:
    """Runs the command, without a Ray that may run here and without the hub; returns its code and output."""
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def run(*arguments: str) -> tuple[int, str]:
        code = main(["doctor", *map(str, arguments)])
        return code, capfd.readouterr().out

    return run


def line_of(text: str, name: str) -> str:
    """The line of a check, without spaces at its begin."""
    (line,) = [line for line in text.splitlines() if line.startswith("  ") and line.split()[1] == name]
    return line.strip()


def written(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text)
    return path


def test_without_a_configuration_it_says_what_fits(doctor: Doctor) -> None:
    code, said = doctor()
    assert code == 0
    assert line_of(said, "parser").startswith("ok    parser")
    assert "24 GB card" in said
    assert "facebook/sam3" in said
    assert said.splitlines()[-1].startswith("the embedded models: no fault was found here")


def test_the_embedded_configuration_can_run(doctor: Doctor, tmp_path: Path, unused_port: int) -> None:
    text = (ROOT / "configs" / "embedded.yaml").read_text().replace("port: 8000", f"port: {unused_port}")
    path = written(tmp_path, text)
    code, said = doctor(path)
    assert code == 0, said
    assert "FAIL" not in said
    assert f"none in {path}" in line_of(said, "faults")
    assert f"{unused_port} on 127.0.0.1 is free" in line_of(said, "port")
    assert "none runs here; `genseg serve` starts its own" in line_of(said, "Ray")
    assert said.splitlines()[-1].startswith(f"{path}: no fault was found here")


def test_a_busy_port_is_a_fault(doctor: Doctor, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = (ROOT / "configs" / "embedded.yaml").read_text().replace("port: 8000", f"port: {port}")
        code, said = doctor(written(tmp_path, text))
    assert code == 1
    assert line_of(said, "port").startswith("FAIL  port")
    assert f"port {port} on 127.0.0.1 is in use; stop what listens there" in said
    assert "c.yaml: does not run here: 1 fault, " in said.splitlines()[-1]


def test_folders_that_lack_something_are_faults(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "sam3").mkdir()
    (tmp_path / "sam3" / "config.json").write_text('{"model_type": "sam3"}')
    models = f"models: {{segmentation: {{model_name: {tmp_path}/sam3}}, text_parser: {{model_name: {tmp_path}/no}}}}"
    code, said = doctor(written(tmp_path, models))
    assert code == 1
    assert line_of(said, "parser") == f"FAIL  parser         {tmp_path}/no: there is no such folder"
    assert "incomplete: model.safetensors, tokenizer.json, processor_config.json missing in" in line_of(
        said, "segmenter"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("models: {segmentaton: {}}\n", "c.yaml:1: models.segmentaton: unknown key 'segmentaton'; did you mean"),
        ("a: [\n", "is not valid YAML"),
        (None, "c.yaml: no such file"),
    ],
    ids=["a wrong key", "no YAML", "no file"],
)
def test_a_wrong_file_is_a_fault(doctor: Doctor, tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "c.yaml"
    if text is not None:
        path.write_text(text)
    code, said = doctor(path, "--load")
    assert code == 1
    assert words in line_of(said, "fault")
    assert "CPU" in said


def test_a_gpu_configuration_fails_where_there_is_no_gpu(doctor: Doctor) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    code, said = doctor(ROOT / "configs" / "one-gpu.yaml")
    assert code == 1
    assert line_of(said, "CUDA").startswith("FAIL  CUDA")
    assert line_of(said, "Ray").startswith("FAIL  Ray")
    assert "there is no GPU here" in line_of(said, "Ray")
    assert "HF_HUB_OFFLINE forbids asking the hub" in line_of(said, "segmenter")


def test_a_token_variable_that_is_not_set_is_a_fault(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_TOKENS", raising=False)
    code, said = doctor(written(tmp_path, "auth: {token_env: NO_SUCH_TOKENS}\n"))
    assert code == 1
    assert "c.yaml:1: auth.token_env: the environment variable NO_SUCH_TOKENS is not set" in said


def test_a_ray_that_does_not_answer_is_a_fault(
    doctor: Doctor, unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{unused_port}")
    code, said = doctor()
    assert code == 1
    assert f"no Ray cluster at 127.0.0.1:{unused_port}" in line_of(said, "Ray")


def test_json_says_the_same(doctor: Doctor, tmp_path: Path) -> None:
    code, said = doctor("--json", written(tmp_path, "models: {segmentation: {model_name: /nowhere}}\n"))
    document = json.loads(said)
    assert code == 1
    assert document["ok"] is False
    assert document["times_and_memory"] is None
    found = {check["name"]: check for check in document["checks"]}
    assert found["segmenter"] == {
        "group": "models",
        "name": "segmenter",
        "status": "fail",
        "found": "/nowhere: there is no such folder",
        "todo": "",
    }


def test_load_says_which_model_cannot_be_loaded(doctor: Doctor, tmp_path: Path, unused_port: int) -> None:
    text = f"""
models:
  text_parser: {{engine: openai, openai: {{base_url: "http://127.0.0.1:{unused_port}/v1", max_retries: 0}}}}
  segmentation: {{model_name: {tmp_path}/none}}
  identity: {{model_name: embedded}}
"""
    code, said = doctor("--load", "--json", written(tmp_path, text))
    assert code == 1
    document = json.loads(said)
    found = {check["name"]: check for check in document["checks"] if check["group"] == "load"}
    assert {name: check["status"] for name, check in found.items()} == {
        "parser": "fail", "segmenter": "fail", "identity": "ok"
    }  # fmt: skip
    assert "there is no such folder" in found["segmenter"]["found"]
    assert [row["name"] for row in document["times_and_memory"]] == ["identity"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--lod"], "did you mean --load?"), (["a.yaml", "b.yaml"], "unrecognized arguments: b.yaml")],
)
def test_wrong_usage_is_2(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["doctor", *arguments])
    assert exit_.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "code", "variables", "words"),
    [
        (403, "GatedRepo", {"HF_TOKEN": "hf_x"}, ["FAIL  segmenter  me/model: access was refused", "HF_TOKEN is set"]),
        (404, "RepoNotFound", {}, ["FAIL  segmenter  me/model: the hub has no such model", "warn  token"]),
        (401, "GatedRepo", {}, ["the weights are gated. Accept the licence", "`ray start`"]),
        (500, None, {}, ["FAIL  segmenter  me/model: the hub cannot be reached"]),
    ],
)
def test_what_the_hub_says_stands_in_the_report(
    status: int, code: str | None, variables: dict[str, str], words: list[str], tmp_path: Path
) -> None:
    path = written(tmp_path, "models: {segmentation: {model_name: me/model}, identity: {model_name: none}}\n")
    with a_hub(status, code) as endpoint:
        environment = {
            **os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "RAY_ADDRESS": "local", **variables
        }  # fmt: skip
        command = [sys.executable, "-m", "serve_app", "doctor", str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    said = " ".join(f"{line}\n" for line in done.stdout.splitlines())
    assert [word for word in words if " ".join(word.split()) not in " ".join(said.split())] == []


CHECKS = [
    Check("a", "first", "ok", "found"),
    Check("b", "second one", "fail", "broken", "repair it"),
    Check("a", "third", "warn", "odd"),
    Check("b", "fourth", "no", "small"),
]


def test_the_report_groups_its_lines() -> None:
    lines = [*check_lines(CHECKS), *table_lines([Row("head", 12.25, "ms per pair")]), conclusion(CHECKS, "c.yaml")]
    assert lines == [
        "a",
        "  ok    first       found",
        "  warn  third       odd",
        "b",
        "  FAIL  second one  broken; repair it",
        "  no    fourth      small",
        "times and memory",
        "  head     12.25 ms per pair",
        "c.yaml: does not run here: 1 fault, 1 warning",
    ]
    assert "\x1b[31mFAIL\x1b[0m" in "\n".join(check_lines(CHECKS, coloured=True))
    assert not [*table_lines([])]
    assert conclusion(CHECKS[:1], "x") == "x: no fault was found here"


def test_the_report_as_json() -> None:
    document = json.loads(as_json(CHECKS[:1], [Row("head", 2.0, "ms per pair")]))
    assert document["ok"] is True
    assert document["times_and_memory"] == [{"name": "head", "value": 2.0, "unit": "ms per pair"}]
