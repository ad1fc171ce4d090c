"""What is written to a terminal, to a log file and when quiet."""

from __future__ import annotations

import asyncio
import io
import time

from serve_app.batch.progress import Meter
from serve_app.cli import job_progress
from serve_app.cli.console import Progress
from serve_app.cli.job_progress import JobProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def follow(reporter: JobProgress, seconds: float) -> None:
    async with reporter.following(Meter(10)):
        await asyncio.sleep(seconds)


async def test_reporter_rewrites_one_line_on_a_terminal() -> None:
    out = Terminal()
    await follow(JobProgress(Progress(stream=out)), job_progress.TERMINAL_EVERY_S * 2.5)
    assert out.getvalue().count("\r\x1b[K0/10 rows") == 3
    assert out.getvalue().count("\n") == 1


async def test_reporter_writes_whole_lines_to_a_log_file() -> None:
    out = io.StringIO()
    await follow(JobProgress(Progress(stream=out)), 0.01)
    assert out.getvalue() == "0/10 rows, 0.0 images/s, time left unknown\n"


async def test_reporter_writes_nothing_when_quiet() -> None:
    out = Terminal()
    reporter = JobProgress(Progress(quiet=True, stream=out))
    await follow(reporter, 0.01)
    reporter.failure("row 1")
    assert out.getvalue() == ""


def test_failure_shows_the_first_few() -> None:
    out = io.StringIO()
    reporter = JobProgress(Progress(stream=out))
    for number in range(50):
        reporter.failure(f"row {number}")
    assert len(out.getvalue().splitlines()) == job_progress.SHOWN_FAILURES + 1


def test_a_step_counts_its_seconds_on_a_terminal_and_leaves_one_line() -> None:
    out = Terminal()
    with Progress(stream=out).step("loading"):
        time.sleep(0.5)
    shown = out.getvalue().split("\r\x1b[K")[1:]
    assert shown[0].startswith("loading … ")
    assert shown[-1].startswith("loading: ")
    assert out.getvalue().count("\n") == 1


def test_a_step_is_named_before_and_after_in_a_log_file() -> None:
    out = io.StringIO()
    with Progress(stream=out).step("loading"):
        assert out.getvalue() == "loading …\n"
    assert [line.split(" ")[0] for line in out.getvalue().splitlines()] == ["loading", "loading:"]


def test_a_step_writes_nothing_when_quiet() -> None:
    out = Terminal()
    with Progress(quiet=True, stream=out).step("loading"):
        time.sleep(0.3)
    assert out.getvalue() == ""
