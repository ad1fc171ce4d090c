"""A job is killed at any moment and started again."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from serve_app.cli import batch
from tests.batch.command import parsed
from tests.batch.dataset import FakeSegment, by_id, connecting, read_lines, write_dataset

ROWS = 300
KILLS = 5


def start(manifest: Path, out: Path, pause_s: float = 0.01) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.batch.command", str(pause_s), str(manifest), "--output", str(out)]
    return subprocess.Popen([*command, "--rows-per-shard", "40", "--concurrency", "8", "--verdict", "--quiet"])


def lines_written(out: Path) -> int:
    files = [*out.glob("part-*.jsonl"), *out.glob(".part-*.partial")]
    return sum(path.read_bytes().count(b"\n") for path in files if path.exists())


def wait_for_lines(process: subprocess.Popen[bytes], out: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while lines_written(out) < count and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)


def contents(out: Path) -> dict[str | int, dict[str, Any]]:
    return by_id(read_lines(out))


def verdict_means(out: Path) -> dict[str, Any]:
    means: dict[str, Any] = json.loads((out / "summary.json").read_text())["verdict"]
    return means


def test_killed_five_times_gives_what_an_undisturbed_job_gives(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path, ROWS)
    undisturbed = tmp_path / "undisturbed"
    arguments = parsed(manifest, "--output", undisturbed, "--verdict", "--quiet")
    assert batch.run_with(arguments, connecting(FakeSegment())) == 0
    out = tmp_path / "out"
    chance = random.Random(7)
    for kill in range(KILLS):
        process = start(manifest, out)
        # At least one more line than before, so that each run is killed at work; then at any moment.
        wait_for_lines(process, out, lines_written(out) + 1 + chance.randrange(ROWS // (KILLS + 2)))
        time.sleep(chance.uniform(0, 0.01))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, f"run {kill} was over before it was killed"
    before = lines_written(out)
    assert KILLS <= before < ROWS
    assert start(manifest, out).wait(60) == 0
    assert contents(out) == contents(undisturbed)
    assert (out / "verdicts.csv").read_text() == (undisturbed / "verdicts.csv").read_text()
    assert verdict_means(out) == verdict_means(undisturbed)
    assert verdict_means(out)["all"]["rows"] == ROWS
    assert [path.name for path in out.glob(".part*")] == []


def test_two_jobs_do_not_share_a_folder(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path, ROWS)
    out = tmp_path / "out"
    first = start(manifest, out, pause_s=1.0)
    try:
        wait_for_lines(first, out, 1)
        second = subprocess.run(
            [sys.executable, "-m", "serve_app", "batch", str(manifest), "--output", str(out)],
            capture_output=True,
            timeout=60,
            text=True,
            check=False,
        )
        assert second.returncode == 1
        assert second.stderr == f"genseg: {out}: another job writes there at this moment\n"
    finally:
        first.kill()
        first.wait()
