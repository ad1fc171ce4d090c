"""The benchmarks' command line; what they measure is for `make bench`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import NAMES, expected, main


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_has_a_quick_run(name: str) -> None:
    tree = ast.parse((Path(__file__).parent / f"bench_{name}.py").read_text())
    (run,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run"]
    assert [argument.arg for argument in run.args.args] == ["quick"]
    used = any(isinstance(node, ast.Name) and node.id == "quick" for node in ast.walk(run))
    assert used is (name != "batcher")  # which takes no longer than the start of Ray


def test_every_benchmark_is_named() -> None:
    assert {path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py")} == {*NAMES}


def test_expected_says_how_long_each_takes() -> None:
    assert expected(["batch"]) == "on 2 cores of an AMD EPYC they take: batch 7:00 min"


def test_the_command_knows_its_benchmarks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--quick", "none"])
    assert "no such benchmark: none" in capsys.readouterr().err
