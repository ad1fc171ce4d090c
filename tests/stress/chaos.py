"""Replicas die under load: every request must still be answered, and rightly.

python -m tests.stress.chaos [--requests 300] [--concurrency 8] [--every 3]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from typing import Any

import httpx

from serve_app.config.schema import AppConfig
from tests.stress.service import Job, jobs, kill_one, objects, post, running


async def load(url: str, work: list[Job], concurrency: int) -> list[tuple[int, float, Any]]:
    """Send all requests, so many at once; results in order."""
    slots = asyncio.Semaphore(concurrency)

    async def one(http: httpx.AsyncClient, job: Job) -> tuple[int, float, Any]:
        async with slots:
            return await post(http, url, job, timeout_s=120)

    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=concurrency)) as http:
        return await asyncio.gather(*(one(http, job) for job in work))


async def kill_every(seconds: float, killed: Counter[str], stop: asyncio.Event) -> None:
    """Kill a replica of one model or the other until told to stop."""
    while not stop.is_set():
        await asyncio.sleep(seconds)
        deployment = random.choice(["SegmenterDeployment", "ParserDeployment"])
        killed[deployment] += await asyncio.to_thread(kill_one, deployment)


async def run(url: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measure what every request should answer, then send all of them again while replicas die."""
    work = jobs(args.requests)
    kinds = {json.dumps(job.form, sort_keys=True) + str([hash(file[1][1]) for file in job.files]): job for job in work}
    calm = dict(zip(kinds, await load(url, [*kinds.values()], 4), strict=True))
    killed: Counter[str] = Counter()
    stop = asyncio.Event()
    killer = asyncio.create_task(kill_every(args.every, killed, stop))
    started = time.monotonic()
    answers = await load(url, work, args.concurrency)
    seconds = time.monotonic() - started
    stop.set()
    await killer
    wrong = 0
    for job, (status, _, body) in zip(work, answers, strict=True):
        key = json.dumps(job.form, sort_keys=True) + str([hash(file[1][1]) for file in job.files])
        wrong += status == 200 and objects(body) != objects(calm[key][2])
    slowest = sorted(elapsed for _, elapsed, _ in answers)
    return {
        "requests": len(work),
        "killed": dict(killed),
        "statuses": dict(Counter(str(status) for status, _, _ in answers)),
        "errors": dict(Counter(body["error"]["code"] for status, _, body in answers if status != 200)),
        "wrong": wrong,
        "seconds": round(seconds, 1),
        "p50_s": round(slowest[len(slowest) // 2], 2),
        "max_s": round(slowest[-1], 2),
    }


def main() -> int:
    """Run and print; 1 if any request failed or was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--every", type=float, default=3.0, help="seconds between kills")
    args = parser.parse_args()
    replicas = {"SegmenterDeployment": 2, "ParserDeployment": 2}
    with running(AppConfig(), replicas) as url:
        report = asyncio.run(run(url, args))
    print(json.dumps(report, indent=2))
    return int(report["statuses"] != {"200": args.requests} or report["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main())
