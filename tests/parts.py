"""`make test`: every test, in three parts that run at the same time.

    python -m tests.parts         all
    python -m tests.parts graph   one of them; what follows its name is for pytest

`graph` and `commands` start Ray, each its own, and wait most of their time. `units` is everything else, in two
processes that take what the other parts leave of the processor. Plain `pytest` still runs all tests in one process.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent

COMMANDS = (
    "tests/batch/test_ray_job.py",
    "tests/cli/test_serve_start.py",
    "tests/graph/test_cli_runs.py",
    "tests/graph/test_starts.py",
    "tests/graph/test_traces.py",
)
"""Files whose tests run commands that start Ray or look for one that runs."""

GRAPH = ("tests/graph", "tests/batch/test_service.py", "tests/page/test_whole_way.py", "tests/test_snippets.py")
"""Files and folders whose tests call a graph on Ray; COMMANDS has the exceptions."""

RESULTS = ("passed", "failed", "skipped")
SUMMARY = re.compile(r"(\d+ \w+|no tests ran) in \d+\.\d+s")
"""Matches the last line of pytest. Child processes may print further lines after it."""

TIMEOUT_S = 300
"""Time limit of a test. Longer than in pyproject.toml, because the parts slow each other down."""


@dataclass(frozen=True)
class Part:
    """Some of the tests.

    Args:
        arguments: arguments of pytest.
        environment: additional environment variables.
        niceness: added to the priority value; the part with the higher number gets less processor time.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str]
    niceness: int


def without(places: Sequence[str]) -> list[str]:
    """Return the arguments with which pytest skips files and folders."""
    return [f"--ignore={place}" for place in places]


PARTS = {
    "graph": Part([*GRAPH, *without(COMMANDS)], {}, 0),
    "commands": Part(COMMANDS, {}, 0),
    "units": Part(
        ["tests", *without([*GRAPH, *COMMANDS]), "--numprocesses=2", "--dist=loadfile"],
        # Each process would start a thread of PyTorch for every core, and they would wait for each other.
        {"OMP_NUM_THREADS": "1"},
        5,
    ),
}


@dataclass(frozen=True)
class Outcome:
    """How a part ended.

    Args:
        counts: how many tests passed, failed and were skipped.
        seconds: how long it took.
        exit_code: pytest's.
    """

    counts: Mapping[str, int]
    seconds: float
    exit_code: int


def counts_of(summary: str) -> dict[str, int]:
    """Read pytest's last line.

    Args:
        summary: such as "1 failed, 20 passed, 2 skipped, 1 error in 3.21s". An error counts as a failure.
    """
    found = dict.fromkeys(RESULTS, 0)
    for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", summary):
        found["failed" if word == "error" else word] += int(number)
    return found


def print_lines(name: str, lines: Iterable[str], summary: list[str]) -> None:
    """Print each line of a part after the part's name, and keep the line with the counts."""
    for line in lines:
        print(f"{name:8} | {line.rstrip()}", flush=True)
        if SUMMARY.search(line):
            summary[:] = [line]


def run(name: str, part: Part, extra: Sequence[str] = ()) -> Outcome:
    """Run a part to its end.

    Args:
        name: its name, printed before each line.
        part: what to run.
        extra: further arguments of pytest.
    """
    began, summary = time.monotonic(), list[str]()
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", f"--timeout={TIMEOUT_S}", *part.arguments, *extra],
        cwd=ROOT,
        env={**os.environ, **part.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        niceness = os.getpriority(os.PRIO_PROCESS, 0) + part.niceness
        os.setpriority(os.PRIO_PROCESS, process.pid, min(19, niceness))
        assert process.stdout is not None
        print_lines(name, process.stdout, summary)
    return Outcome(counts_of("".join(summary)), time.monotonic() - began, process.returncode)


def table(outcomes: Mapping[str, Outcome]) -> str:
    """Make the table of the parts, and a last line with the sum of each count."""
    rows = [f"{'part':10}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}"]
    for name, outcome in outcomes.items():
        passed, failed, skipped = (outcome.counts[each] for each in RESULTS)
        rows.append(f"{name:10}{passed:8}{failed:8}{skipped:9}{outcome.seconds:9.0f}")
    sums = [f"{sum(outcome.counts[each] for outcome in outcomes.values())} {each}" for each in RESULTS]
    return "\n".join([*rows, f"total: {', '.join(sums)}"])


def main(arguments: Sequence[str]) -> int:
    """Run the part that the first argument names, or all parts; return 0 if all of them passed."""
    names = [*arguments[:1]] if arguments[:1] and arguments[0] in PARTS else [*PARTS]
    extra = arguments[1:] if len(names) < len(PARTS) else arguments
    outcomes: dict[str, Outcome] = {}

    def keep(name: str) -> None:
        outcomes[name] = run(name, PARTS[name], extra)

    threads = [threading.Thread(target=keep, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(table({name: outcomes[name] for name in names}))
    return int(any(outcome.exit_code for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
