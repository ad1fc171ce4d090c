"""`python -m tests.gpu [PART ...]`: what only a GPU can show. `make gpu` runs it.

    python -m tests.gpu                     every part, one after the other; without a GPU it says what they would show
    python -m tests.gpu plain split         these parts
    python -m tests.gpu --json gpu.json     also writes the figures to a file
    python -m tests.gpu --tiny --device cpu every part on a CPU with very small models: tries the code, measures nothing

Needs PyTorch 2.11, transformers 5.17, torchvision and Pillow, or newer, and no network: neither Ray nor FastAPI nor
pycocotools is imported, pydantic is not needed (see without_pydantic), and the models of published size are built on
the device with random weights. pytest is needed by the part `tests` alone. Each part is a process of its own, ends
within 8 minutes, and prints as it goes. On one H100 all parts together take about 12 minutes (an estimate, not
measured).

Exit status: 0; or 1 where a part failed or a figure missed its bar. Without a GPU 0.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PARTS = {
    "tests": "the tests marked gpu: same objects on GPU and CPU, out of memory halves a batch, position buffers",
    "plain": "3 pictures x 4 phrases x masks against the plain bf16 loop (bar 4x), x 10 phrases (bar 7x)",
    "split": "vision against head at 1 to 16 phrases (bar at 4: head under 0.6 of vision), by the head's type",
    "load": "16 concurrent requests through the package's batchers: images/s, device busy (bar 0.85)",
    "memory": "peak memory of each step against the figures in configs/one-gpu.yaml",
    "parser": "Qwen3-VL-4B and 2B: memory, prefill, tokens/s",
    "exact": "the models that ship inside on this GPU against the plain loop on the CPU in float32: same objects?",
    "identity": "ViT-B/14 over 12 and 64 crops: ms and memory",
    "graphs": "an experiment: what CUDA graphs would gain",
    "compile": "an experiment: what torch.compile of the vision encoder gains",
}
LIMIT_S = 480


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description="Measure on a GPU what only it can show.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which of: {', '.join(PARTS)}; all by default")
    parser.add_argument("--tiny", action="store_true", help="very small models and no bars: only tries whether it runs")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or, with --tiny, cpu; default: %(default)s")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds of a part; default: %(default)s")
    parser.add_argument("--rows-to", type=Path, help=argparse.SUPPRESS)  # what the parts' processes are called with
    options = parser.parse_args(arguments)
    unknown = sorted({*options.parts} - {*PARTS})
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are: {', '.join(PARTS)}")
    if options.device == "cpu" and not options.tiny:
        parser.error("--device cpu needs --tiny: the models of published size take a CPU hours")
    parts = options.parts or [*PARTS]
    if options.device != "cpu" and not _has_gpu():
        return _say_what_it_would_show(parts)
    if options.rows_to is not None:
        options.rows_to.write_text(json.dumps(_rows_of(parts[0], options.device, options.tiny)))
        return 0
    return _report(parts, options)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _say_what_it_would_show(parts: Sequence[str]) -> int:
    from tests.gpu import machine

    print(f"skipped: {machine.why_no_gpu()}. On a GPU it would show:")
    for part in parts:
        print(f"  {part:9} {PARTS[part]}")
    return 0


def _rows_of(part: str, device: str, tiny: bool) -> list[dict[str, Any]]:
    """Run one part in this process; what is tiny has no bar to meet."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before the hub's library is imported
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_grad_enabled(False)
    where = torch.device(device if device == "cpu" or ":" in device else f"{device}:0")
    if where.type == "cuda":
        torch.cuda.set_device(where)
    rows: list[dict[str, Any]] = importlib.import_module(f"tests.gpu.part_{part}").run(where, tiny)
    return [{**row, "target": None, "bound": None, "met": None} for row in rows] if tiny else rows


def _report(parts: Sequence[str], options: argparse.Namespace) -> int:
    import torch

    from tests.benchmarks.rows import table
    from tests.gpu import machine

    facts = machine.facts(torch.device(options.device))
    for name, value in facts.items():
        print(f"{name}: {value}", flush=True)
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    seconds: dict[str, float] = {}
    for part in parts:
        print(f"{part}: {PARTS[part]}", flush=True)
        started = time.perf_counter()
        measured = _in_subprocess(part, options)
        seconds[part] = round(time.perf_counter() - started, 1)
        if measured is None:
            failed.append(part)
        rows += [{"part": part, **row} for row in measured or ()]
        print(f"{part}: {'failed after ' if measured is None else ''}{seconds[part]:.0f} s", flush=True)
        if options.json is not None:  # after each part, so that what was measured is there whatever happens next
            document = {"machine": facts, "tiny": options.tiny, "rows": rows, "seconds": seconds, "failed": failed}
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(document, indent=1) + "\n")
    print("", table(rows), sep="\n", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", flush=True)
    return int(bool(failed) or any(row["met"] is False for row in rows))


def _in_subprocess(part: str, options: argparse.Namespace) -> list[dict[str, Any]] | None:
    """Run one part in a process of its own; None if it failed or took too long."""
    if part == "tests":
        return _tests(options)
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        command = [sys.executable, "-u", "-m", "tests.gpu", part, "--device", options.device, "--rows-to", str(rows)]
        command += ["--tiny"] if options.tiny else []
        if _ended_well(command, options.limit):
            measured: list[dict[str, Any]] = json.loads(rows.read_text())
            return measured
    return None


def _tests(options: argparse.Namespace) -> list[dict[str, Any]] | None:
    if find_spec("pytest") is None:
        print("  pytest is not installed: the tests are left out", flush=True)
        return []
    folder = str(Path(__file__).parent)
    command = [sys.executable, "-u", "-m", "pytest", folder, "-m", "gpu", "-p", "no:cacheprovider", "-rs"]
    return [] if _ended_well(command, options.limit) else None


def _ended_well(command: Sequence[str], limit_s: float) -> bool:
    try:
        return subprocess.run(command, check=False, timeout=limit_s).returncode == 0
    except subprocess.TimeoutExpired:
        print(f"  stopped after {limit_s:.0f} s", flush=True)
        return False


if __name__ == "__main__":
    sys.exit(main())
