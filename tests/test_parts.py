"""The parts of `make test`: together every test, and a summary that hides no failure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.parts import PARTS, ROOT, Outcome, Part, counts_of, run, table


@pytest.mark.parametrize(
    ("summary", "counts"),
    [
        ("20 passed in 3.21s", (20, 0, 0)),
        ("1 failed, 20 passed, 2 skipped, 1 error in 3.21s", (20, 2, 2)),
        ("2 errors in 0.10s", (0, 2, 0)),
        ("3 passed, 4 warnings in 90.00s (0:01:30)", (3, 0, 0)),
        ("no tests ran in 0.01s", (0, 0, 0)),
    ],
)
def test_the_counts_are_read_from_the_last_line(summary: str, counts: tuple[int, int, int]) -> None:
    assert tuple(counts_of(summary).values()) == counts


def files(arguments: Sequence[str]) -> set[Path]:
    """The test files that pytest collects with these arguments."""
    found, left_out = set[Path](), set[Path]()
    for argument in arguments:
        if not argument.startswith("--"):
            found |= files_below(argument)
        elif argument.startswith("--ignore="):
            left_out |= files_below(argument.removeprefix("--ignore="))
    return found - left_out


def files_below(place: str) -> set[Path]:
    path = ROOT / place
    assert path.exists(), place
    return {path} if path.is_file() else {*path.rglob("test_*.py")}


def test_each_file_is_in_one_part() -> None:
    parts = [files(part.arguments) for part in PARTS.values()]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert set.union(*parts) == files_below("tests")


def test_no_unit_uses_the_ray_of_the_tests() -> None:
    uses = re.compile(r"\bray_serve\b|\bgraph: Graph\b")
    units = files(PARTS["units"].arguments) - {Path(__file__)}
    assert [str(path.relative_to(ROOT)) for path in units if uses.search(path.read_text())] == []


def test_a_part_that_fails_says_so_with_its_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tests = tmp_path / "test_one.py"
    tests.write_text(
        "import atexit, os\natexit.register(print, 'the end')\n"
        "def test_a():\n    assert os.environ['SHADE'] == 'dark'\ndef test_b():\n    assert 0\n"
    )
    outcome = run("shades", Part([str(tests), f"--rootdir={tmp_path}"], {"SHADE": "dark"}, 1))
    assert (outcome.exit_code, tuple(outcome.counts.values())) == (1, (1, 1, 0))
    assert "test_one.py::test_b" in capsys.readouterr().out


def test_the_table_ends_with_the_sum_of_the_parts() -> None:
    counts = {"passed": 5, "failed": 1, "skipped": 2}
    lines = table({"graph": Outcome(counts, 61.4, 1), "units": Outcome(counts, 600.0, 0)}).splitlines()
    assert lines == [
        "part        passed  failed  skipped  seconds",
        "graph            5       1        2       61",
        "units            5       1        2      600",
        "total: 10 passed, 2 failed, 4 skipped",
    ]
