"""Hours in little: at capacity, with sizes and bad input mixed, memory and file descriptors stay flat.

python -m tests.stress.soak [--minutes 20]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from serve_app.config import MIB, AppConfig, CacheConfig
from tests.conftest import png
from tests.stress.service import Job, jobs, post, running

WARM_UP = 0.25
"""Part of the run after which growth counts."""


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


async def run(url: str, seconds: float, concurrency: int) -> dict[str, Any]:
    """Keep the service busy; note every process's memory and descriptors after the warm-up and at the end."""
    statuses: Counter[str] = Counter()
    started = time.monotonic()
    before: dict[str, tuple[float, int]] = {}
    count = 0

    async def worker(http: httpx.AsyncClient) -> None:
        nonlocal count
        while time.monotonic() - started < seconds:
            count += 1
            status, _, _ = await post(http, url, mixed(count))
            statuses[str(status)] += 1

    async with httpx.AsyncClient() as http:
        workers = [asyncio.create_task(worker(http)) for _ in range(concurrency)]
        await asyncio.sleep(seconds * WARM_UP)
        watched = processes()
        before = {name: usage(pid) for name, pid in watched.items()}
        await asyncio.gather(*workers)
    after = {name: usage(pid) for name, pid in watched.items()}
    return {
        "requests": count,
        "statuses": dict(statuses),
        "processes": {
            name: {
                "mib": [round(before[name][0]), round(after[name][0])],
                "growth": round(after[name][0] / before[name][0] - 1, 3),
                "fds": [before[name][1], after[name][1]],
            }
            for name in watched
        },
    }


def main() -> int:
    """Run and print; 1 if a process grew or an answer was of another kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--concurrency", type=int, default=6)
    args = parser.parse_args()
    # Small caches, so that they are full long before the warm-up ends.
    config = AppConfig(cache=CacheConfig(vision_bytes=64 * MIB, phrase_bytes=MIB, prompt_bytes=MIB))
    with running(config, {}) as url:
        report = asyncio.run(run(url, args.minutes * 60, args.concurrency))
    print(json.dumps(report, indent=2))
    grown = [name for name, entry in report["processes"].items() if entry["growth"] > 0.05]
    leaking = [name for name, entry in report["processes"].items() if entry["fds"][1] > entry["fds"][0] + 8]
    return int(bool(grown or leaking or set(report["statuses"]) - {"200", "422"}))


if __name__ == "__main__":
    sys.exit(main())
