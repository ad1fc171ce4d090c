"""`python -m tests.benchmarks [--quick] [NAME ...]`: run benchmarks, print a table, write results/benchmarks.json.

Each benchmark runs in a process of its own, so that none inherits another's memory, threads or Ray.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks import machine
from tests.benchmarks.rows import Row, normalised, table

EXPECTED_S: dict[str, int | None] = {
    "prepare": None,
    "postprocess": None,
    "batcher": None,
    "parser": None,
    "growth": None,
    "verdict": None,
    "orchestration": None,
    "http": None,
    "head": None,
    "full_size": None,
    "batch": 420,
    "identity": 34,
    "traces": None,
}
"""Every benchmark, with the seconds that it took on 2 cores of an AMD EPYC; None where nobody has timed it yet."""

NAMES = tuple(EXPECTED_S)
OUTPUT, QUICK_OUTPUT = Path("results/benchmarks.json"), Path("results/benchmarks-quick.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0; or 1 where a benchmark failed or a target was missed.
    """
    options = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Run the benchmarks.")
    options.add_argument("names", nargs="*", metavar="NAME", help=f"which of: {', '.join(NAMES)}; all by default")
    options.add_argument(
        "--quick", action="store_true", help="smaller sizes and no targets: only tries whether it runs"
    )
    options.add_argument("--output", type=Path, help=f"default: {OUTPUT}, with --quick {QUICK_OUTPUT}")
    options.add_argument("--rows-to", type=Path, help=argparse.SUPPRESS)  # what the subprocesses are called with
    chosen = options.parse_args(arguments)
    unknown = sorted({*chosen.names} - {*NAMES})
    if unknown:
        options.error(f"no such benchmark: {', '.join(unknown)}; there are: {', '.join(NAMES)}")
    if chosen.rows_to is not None:
        chosen.rows_to.write_text(json.dumps(rows_of(chosen.names[0], chosen.quick)))
        return 0
    output = chosen.output or (QUICK_OUTPUT if chosen.quick else OUTPUT)
    return report(chosen.names or NAMES, chosen.quick, output)


def rows_of(name: str, quick: bool) -> list[Row]:
    """Run one benchmark in this process; what is quick has no target to meet."""
    module = importlib.import_module(f"tests.benchmarks.bench_{name}")
    rows = [normalised(row) for row in module.run(quick)]
    return [{**row, "target": None, "bound": None, "met": None} for row in rows] if quick else rows


def expected(names: Sequence[str]) -> str:
    """Say how long benchmarks take.

    >>> expected(["batch"])
    'on 2 cores of an AMD EPYC they take: batch 7:00 min'
    """
    times = [
        f"{name} {'not timed yet' if seconds is None else f'{seconds // 60}:{seconds % 60:02} min'}"
        for name, seconds in ((name, EXPECTED_S[name]) for name in names)
    ]
    return f"on 2 cores of an AMD EPYC they take: {', '.join(times)}"


def report(names: Sequence[str], quick: bool, output: Path) -> int:
    """Run benchmarks one after the other, print their rows, keep them in a file; returns the exit code."""
    facts = machine.facts()
    print(f"{facts['cores']} cores of {facts['cpu']}, load {facts['load_before']:.1f}", flush=True)
    print("--quick: smaller sizes, no targets" if quick else expected(names), flush=True)
    document: dict[str, Any] = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": facts,
    }
    rows: list[Row] = []
    failed: list[str] = []
    seconds: dict[str, float] = {}
    for name in names:
        print(f"{name} ...", flush=True)
        started = time.perf_counter()
        measured = in_subprocess(name, quick)
        if measured is None:
            failed.append(name)
        rows += [{"benchmark": name, **row} for row in measured or ()]
        seconds[name] = round(time.perf_counter() - started, 1)
        print(f"{name}: {seconds[name]:.0f} s", flush=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document | {"rows": rows, "seconds": seconds, "failed": failed}, indent=1) + "\n")
    print("", table(rows), "", f"written to {output}", sep="\n")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed) or any(row["met"] is False for row in rows))


def in_subprocess(name: str, quick: bool) -> list[Row] | None:
    """Run one benchmark in a process of its own; None if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "tests.benchmarks", name, "--rows-to", str(rows)]
        command += ["--quick"] if quick else []
        if subprocess.run(command, check=False).returncode != 0:
            return None
        measured: list[Row] = json.loads(rows.read_text())
        return measured


if __name__ == "__main__":
    sys.exit(main())
