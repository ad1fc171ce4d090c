"""A long run with every kind of request: memory and file descriptors of each process must not grow.

python -m tests.stress.soak [--minutes 20] [--requests 40000] [--warm-up 5]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from serve_app.config.schema import AppConfig, CacheConfig
from serve_app.config.values import MIB
from tests.stress import memory_bar
from tests.stress.memory_bar import Reading
from tests.stress.service import running
from tests.stress.traffic import Sent, load

ROUNDS = 16
"""Parts of the run; memory is read after each. A reading is off by a few MiB: the slope needs readings far apart."""
SETTLE_S = 15.0
"""Idle time before a reading: every upload is answered and forgotten, and free memory is given back."""


def processes() -> dict[str, int]:
    """Process ids of all that runs for the service: Ray's own processes, proxy, controller, replicas; by name."""
    parents, titles = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text()
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").split()
            except OSError:
                continue
            parents[int(entry.name)] = int(status.rpartition(")")[2].split()[1])
            titles[int(entry.name)] = title_of(words)
    return {f"{titles[pid]} {pid}": pid for pid in parents if titles[pid] and is_below(pid, parents)}


def title_of(words: list[str]) -> str:
    """A short name of a command line: of a Python program its module or script, of a replica its deployment."""
    if not words:
        return ""
    if words[0].startswith("ray::"):
        return words[0].split(".")[0]
    script = next((word for word in words[1:] if word.endswith(".py")), words[0])
    return Path(script).name


def is_below(pid: int, parents: dict[int, int]) -> bool:
    """Whether a process was started by this one, or by one that was."""
    while pid in parents:
        pid = parents[pid]
        if pid == os.getpid():
            return True
    return False


def usage(pid: int) -> tuple[float, int]:
    """Resident memory without shared pages, in MiB, and open file descriptors."""
    pages = (Path("/proc") / str(pid) / "statm").read_text().split()
    resident = (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE") / MIB
    return resident, len(list((Path("/proc") / str(pid) / "fd").iterdir()))


async def run(url: str, warm_up_s: float, seconds: float, requests: int, concurrency: int) -> dict[str, Any]:
    """Load the service in rounds; after the warm-up and after each round read every process, all of them idle.

    Under load a reading is off by the uploads in flight, several MiB either way.
    """
    sent = Sent(Counter(), Counter())
    await load(url, sent, 0, warm_up_s, concurrency)
    watched = processes()
    readings: dict[str, list[Reading]] = {name: [] for name in watched}
    for number in range(ROUNDS + 1):
        if number:
            await load(url, sent, -(-requests // ROUNDS), seconds / ROUNDS, concurrency)
        await asyncio.sleep(SETTLE_S)
        for name, pid in watched.items():
            readings[name].append(Reading(sent.answers.total(), *usage(pid)))
        now = ", ".join(
            f"{name} {of_one[-1].mib:.1f}" for name, of_one in readings.items() if name.startswith(memory_bar.SERVING)
        )
        print(f"round {number} of {ROUNDS}: {sent.answers.total()} requests; MiB: {now}", file=sys.stderr)
    return {
        "answers": dict(sent.answers),
        "requests": [reading.requests for reading in next(iter(readings.values()))],
        "processes": {
            name: {
                "mib": [round(reading.mib, 1) for reading in of_one],
                "mib_per_10_000": round(memory_bar.mib_per_10_000(of_one), 2),
                "fds": [reading.fds for reading in of_one],
            }
            for name, of_one in readings.items()
        },
        "faults": [
            *(f"{count} x {answer}" for answer, count in sent.wrong.items()),
            *(fault for name, of_one in readings.items() for fault in memory_bar.faults(name, of_one)),
        ],
    }


def main() -> int:
    """Run and print; 1 if a process grew or an answer was of another kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="the least time of load after the warm-up")
    parser.add_argument("--requests", type=int, default=40_000, help="the least number of requests after the warm-up")
    parser.add_argument("--warm-up", type=float, default=5.0, help="minutes of load before the first reading")
    parser.add_argument("--concurrency", type=int, default=6)
    args = parser.parse_args()
    # Small caches, so that they are full long before the warm-up ends.
    config = AppConfig(cache=CacheConfig(vision_bytes=64 * MIB, phrase_bytes=MIB, prompt_bytes=MIB))
    with running(config, {}) as url:
        report = asyncio.run(run(url, args.warm_up * 60, args.minutes * 60, args.requests, args.concurrency))
    print(json.dumps(report, indent=2))
    return int(bool(report["faults"]))


if __name__ == "__main__":
    sys.exit(main())
