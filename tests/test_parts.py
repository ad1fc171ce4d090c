"""The two parts of `make test`: together every test, and a summary that hides no failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parts import PARTS, ROOT, SERVICES, Outcome, Part, counts_of, run, table


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


def test_every_service_exists_and_the_other_part_leaves_it_out() -> None:
    assert [place for place in SERVICES if not (ROOT / place).exists()] == []
    assert {f"--ignore={place}" for place in SERVICES} <= {*PARTS["units"].arguments}


def test_a_part_that_fails_says_so_with_its_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tests = tmp_path / "test_one.py"
    tests.write_text(
        "import os\ndef test_a():\n    assert os.environ['SHADE'] == 'dark'\ndef test_b():\n    assert 0\n"
    )
    outcome = run("shades", Part([str(tests), f"--rootdir={tmp_path}"], {"SHADE": "dark"}, 1))
    assert (outcome.exit_code, tuple(outcome.counts.values())) == (1, (1, 1, 0))
    assert "test_one.py::test_b" in capsys.readouterr().out


def test_the_table_ends_with_the_sum_of_the_parts() -> None:
    counts = {"passed": 5, "failed": 1, "skipped": 2}
    lines = table({"services": Outcome(counts, 61.4, 1), "units": Outcome(counts, 600.0, 0)}).splitlines()
    assert lines == [
        "part        passed  failed  skipped  seconds",
        "services         5       1        2       61",
        "units            5       1        2      600",
        "total: 10 passed, 2 failed, 4 skipped",
    ]
