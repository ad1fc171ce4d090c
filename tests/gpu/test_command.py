"""The command line of the GPU's measurements, on machines that have no GPU, and what it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.gpu.__main__ import PARTS, main

FOLDER = Path(__file__).parent
ABSENT = ("ray", "fastapi", "starlette", "pycocotools", "pydantic")


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would measure")
def test_without_a_gpu_it_says_what_it_would_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    said = capsys.readouterr().out
    assert said.startswith("skipped: ")
    assert all(f"  {part}" in said and what in said for part, what in PARTS.items())


def test_every_part_has_a_module_and_every_module_is_a_part() -> None:
    modules = {path.stem.removeprefix("part_") for path in FOLDER.glob("part_*.py")}
    assert modules == {*PARTS} - {"tests"}


def test_an_unknown_part_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["none"])
    assert "no such part: none" in capsys.readouterr().err


def test_a_cpu_tries_very_small_models_only(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--device", "cpu"])
    assert "--tiny" in capsys.readouterr().err


def test_a_part_runs_where_ray_and_the_others_are_missing(tmp_path: Path) -> None:
    parts = ", ".join(f"tests.gpu.part_{part}" for part in PARTS if part != "tests")
    rows = tmp_path / "rows.json"
    program = (
        f"import sys\nfor name in {ABSENT}: sys.modules[name] = None\n"
        f"import {parts}\nfrom tests.gpu.__main__ import main\n"
        f"sys.exit(main(['memory', '--tiny', '--device', 'cpu', '--rows-to', {str(rows)!r}]))"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=FOLDER.parent.parent, check=False, timeout=170)
    assert ended.returncode == 0
    assert rows.stat().st_size > 0
