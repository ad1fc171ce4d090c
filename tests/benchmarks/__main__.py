"""`python -m tests.benchmarks [NAME ...]`: run all benchmarks or some, print a table, write results/benchmarks.json.

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

NAMES = ("postprocess", "batcher", "parser", "growth", "orchestration", "http", "full_size", "batch")
OUTPUT = Path("results/benchmarks.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0; or 1 where a benchmark failed or a target was missed.
    """
    options = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Run the benchmarks.")
    options.add_argument("names", nargs="*", metavar="NAME", help=f"which of: {', '.join(NAMES)}; all by default")
    options.add_argument("--output", type=Path, default=OUTPUT, help=f"default: {OUTPUT}")
    options.add_argument("--rows-to", type=Path, help=argparse.SUPPRESS)  # what the subprocesses are called with
    chosen = options.parse_args(arguments)
    unknown = sorted({*chosen.names} - {*NAMES})
    if unknown:
        options.error(f"no such benchmark: {', '.join(unknown)}; there are: {', '.join(NAMES)}")
    if chosen.rows_to is not None:
        chosen.rows_to.write_text(json.dumps(rows_of(chosen.names[0])))
        return 0
    return report(chosen.names or NAMES, chosen.output)


def rows_of(name: str) -> list[Row]:
    """Run one benchmark in this process."""
    module = importlib.import_module(f"tests.benchmarks.bench_{name}")
    return [normalised(row) for row in module.run()]


def report(names: Sequence[str], output: Path) -> int:
    """Run benchmarks one after the other, print their rows, keep them in a file; returns the exit code."""
    facts = machine.facts()
    print(f"{facts['cores']} cores of {facts['cpu']}, load {facts['load_before']:.1f}", flush=True)
    document: dict[str, Any] = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "machine": facts}
    rows: list[Row] = []
    failed: list[str] = []
    for name in names:
        print(f"{name} ...", flush=True)
        started = time.perf_counter()
        measured = in_subprocess(name)
        if measured is None:
            failed.append(name)
        rows += [{"benchmark": name, **row} for row in measured or ()]
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document | {"rows": rows, "failed": failed}, indent=1) + "\n")
    print("", table(rows), "", f"written to {output}", sep="\n")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed) or any(row["met"] is False for row in rows))


def in_subprocess(name: str) -> list[Row] | None:
    """Run one benchmark in a process of its own; None if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "tests.benchmarks", name, "--rows-to", str(rows)]
        if subprocess.run(command, check=False).returncode != 0:
            return None
        measured: list[Row] = json.loads(rows.read_text())
        return measured


if __name__ == "__main__":
    sys.exit(main())
