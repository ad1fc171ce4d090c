"""Hours in little: at capacity, with sizes and bad input mixed, memory and file descriptors stay flat.

python -m tests.stress.soak [--minutes 20] [--warm-up 5]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from serve_app.config.schema import MIB, AppConfig, CacheConfig
from tests.conftest import png
from tests.stress.service import Job, jobs, post, running

ROUNDS = 8
"""Parts of the run; memory is read after each, so that the report tells growth that ends from growth that stays."""
SETTLE_S = 10.0
"""Idle time before a reading: every upload is answered and forgotten."""


def mixed(index: int) -> Job:
    """Requests of every kind in turn: the bundled images, new noise of several sizes, and bad files."""
    if index % 5 == 3:
        return Job({"entities": '["dog"]'}, [("generated", ("broken.jpg", b"\xff\xd8\xff" + os.urandom(200)))])
    if index % 2:
        side = (64, 300, 900)[index % 3]
        return Job({"entities": '["dog", "car"]'}, [("generated", ("noise.png", png(side, side, index)))])
    return jobs(1, seed=index)[0]


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


async def load(http: httpx.AsyncClient, url: str, seconds: float, concurrency: int, first: int) -> Counter[str]:
    """Keep the service busy for a while with the requests from number `first` on; count the answers by status."""
    statuses: Counter[str] = Counter()
    ends = time.monotonic() + seconds
    numbers = itertools.count(first)

    async def worker() -> None:
        while time.monotonic() < ends:
            status, _, _ = await post(http, url, mixed(next(numbers)))
            statuses[str(status)] += 1

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return statuses


def growth(mib: Sequence[float]) -> float:
    """How much memory rose over the run, as a part of what it was: by the straight line through all readings.

    The last reading against the first would be off by a buffer that happens to be kept: 4 MiB in Serve's proxy.
    """
    slope, start = np.polyfit(range(len(mib)), mib, 1)
    return float(slope * (len(mib) - 1) / start)


async def run(url: str, warm_up: float, seconds: float, concurrency: int) -> dict[str, Any]:
    """Load the service in rounds; after the warm-up and after each round read every process, all of them idle.

    Under load a reading is off by the uploads in flight, several MiB either way.
    """
    readings: list[dict[str, tuple[float, int]]] = []
    async with httpx.AsyncClient() as http:
        statuses = await load(http, url, warm_up, concurrency, 0)
        watched = processes()
        for number in range(ROUNDS + 1):
            if number:
                statuses += await load(http, url, seconds / ROUNDS, concurrency, statuses.total())
            await asyncio.sleep(SETTLE_S)
            readings.append({name: usage(pid) for name, pid in watched.items()})
            print(f"round {number} of {ROUNDS}: {statuses.total()} requests", file=sys.stderr)
    return {
        "requests": statuses.total(),
        "statuses": dict(statuses),
        "processes": {
            name: {
                "mib": [round(reading[name][0], 1) for reading in readings],
                "growth": round(growth([reading[name][0] for reading in readings]), 3),
                "fds": [reading[name][1] for reading in readings],
            }
            for name in watched
        },
    }


def main() -> int:
    """Run and print; 1 if a process grew or an answer was of another kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--warm-up", type=float, default=5.0, help="minutes of load before the first reading")
    parser.add_argument("--concurrency", type=int, default=6)
    args = parser.parse_args()
    # Small caches, so that they are full long before the warm-up ends.
    config = AppConfig(cache=CacheConfig(vision_bytes=64 * MIB, phrase_bytes=MIB, prompt_bytes=MIB))
    with running(config, {}) as url:
        report = asyncio.run(run(url, args.warm_up * 60, args.minutes * 60, args.concurrency))
    print(json.dumps(report, indent=2))
    grown = [name for name, entry in report["processes"].items() if entry["growth"] > 0.05]
    leaking = [name for name, entry in report["processes"].items() if entry["fds"][-1] > entry["fds"][0] + 8]
    return int(bool(grown or leaking or set(report["statuses"]) - {"200", "422"}))


if __name__ == "__main__":
    sys.exit(main())
