"""`make test`: every test, in two parts that run at the same time.

    python -m tests.parts            both
    python -m tests.parts services   one of them; what follows its name is for pytest

`services` is what starts Ray, one process that waits most of its time. `units` is everything else, in two processes,
and takes what `services` leaves of the processor. Plain `pytest` still runs all tests in one process.
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
from typing import IO

ROOT = Path(__file__).parent.parent

SERVICES = (
    "tests/graph",
    "tests/batch/test_ray_job.py",
    "tests/batch/test_service.py",
    "tests/cli/test_serve_start.py",
    "tests/page/test_whole_way.py",
)
"""Files and folders whose tests start Ray or look for one that runs."""

RESULTS = ("passed", "failed", "skipped")


@dataclass(frozen=True)
class Part:
    """Some of the tests.

    Args:
        arguments: of pytest.
        environment: what is set for it.
        niceness: how far it stands back for the other part.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str]
    niceness: int


PARTS = {
    "services": Part(SERVICES, {}, 0),
    "units": Part(
        ("tests", *(f"--ignore={place}" for place in SERVICES), "--numprocesses=2", "--dist=loadfile"),
        # Each process would start a thread of PyTorch for every core, and they would wait for each other.
        {"OMP_NUM_THREADS": "1"},
        10,
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


def print_lines(name: str, lines: Iterable[str], last: list[str]) -> None:
    """Print what a part says with its name in front, and keep its last line."""
    for line in lines:
        print(f"{name:8} | {line.rstrip()}", flush=True)
        if line.strip():
            last[:] = [line]


def run(name: str, part: Part, extra: Sequence[str] = ()) -> Outcome:
    """Run a part to its end.

    Args:
        name: its name, printed before each line.
        part: what to run.
        extra: further arguments of pytest.
    """
    began, last = time.monotonic(), list[str]()
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *part.arguments, *extra],
        cwd=ROOT,
        env={**os.environ, **part.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    os.setpriority(os.PRIO_PROCESS, process.pid, min(19, os.getpriority(os.PRIO_PROCESS, 0) + part.niceness))
    output: IO[str] | None = process.stdout
    assert output is not None
    print_lines(name, output, last)
    return Outcome(counts_of(last[0] if last else ""), time.monotonic() - began, process.wait())


def table(outcomes: Mapping[str, Outcome]) -> str:
    """Make the table of the parts, and a last line with the sum of each count."""
    rows = [f"{'part':10}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}"]
    for name, outcome in outcomes.items():
        passed, failed, skipped = (outcome.counts[each] for each in RESULTS)
        rows.append(f"{name:10}{passed:8}{failed:8}{skipped:9}{outcome.seconds:9.0f}")
    sums = [f"{sum(outcome.counts[each] for outcome in outcomes.values())} {each}" for each in RESULTS]
    return "\n".join([*rows, f"total: {', '.join(sums)}"])


def main(arguments: Sequence[str]) -> int:
    """Run the parts that are named first, or all; returns 0 if every one of them passed."""
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
