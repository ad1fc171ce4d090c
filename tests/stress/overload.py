"""Ten times what the service can do: every answer is 200, 429 or 503 within its deadline, and it recovers.

python -m tests.stress.overload [--seconds 60]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any

import httpx

from serve_app.config import AppConfig, ServingConfig
from tests.stress.chaos import load
from tests.stress.service import jobs, post, running

DEADLINE_S = 20.0


async def flood(url: str, rate: float, seconds: float) -> list[tuple[int, float, Any]]:
    """Send requests at a fixed rate, whether or not earlier ones are answered."""
    work = jobs(64)
    tasks = []
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None)) as http:
        started = time.monotonic()
        while (elapsed := time.monotonic() - started) < seconds:
            while len(tasks) < rate * elapsed:
                tasks.append(asyncio.create_task(post(http, url, work[len(tasks) % len(work)], DEADLINE_S)))
            await asyncio.sleep(0.005)
        return await asyncio.gather(*tasks)


async def run(url: str, seconds: float) -> dict[str, Any]:
    """Measure the capacity, flood, and measure how fast a single request is again."""
    warm = await load(url, jobs(16), 8)
    started = time.monotonic()
    await load(url, jobs(64), 8)
    capacity = 64 / (time.monotonic() - started)
    calm = sorted(elapsed for _, elapsed, _ in warm)[len(warm) // 2]
    answers = await flood(url, 10 * capacity, seconds)
    ended = time.monotonic()
    recovered: float | None = None
    async with httpx.AsyncClient() as http:
        while time.monotonic() - ended < 30:
            status, elapsed, _ = await post(http, url, jobs(1)[0], DEADLINE_S)
            if status == 200 and elapsed < 2 * calm + 0.2:
                recovered = time.monotonic() - ended
                break
    good = sorted(elapsed for status, elapsed, _ in answers if status == 200)
    return {
        "capacity_per_s": round(capacity, 1),
        "offered": len(answers),
        "statuses": dict(Counter(str(status) for status, _, _ in answers)),
        "errors": dict(Counter(body["error"]["code"] for status, _, body in answers if status != 200)),
        "past_deadline": sum(elapsed > DEADLINE_S + 1 for _, elapsed, _ in answers),
        "p95_of_200_s": round(good[int(0.95 * (len(good) - 1))], 2) if good else None,
        "recovered_after_s": None if recovered is None else round(recovered, 1),
    }


def main() -> int:
    """Run and print; 1 if an answer was of another kind, late, or the service did not recover."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    args = parser.parse_args()
    config = AppConfig(serving=ServingConfig(max_concurrent_requests=16))
    with running(config, {}) as url:
        report = asyncio.run(run(url, args.seconds))
    print(json.dumps(report, indent=2))
    allowed = set(report["statuses"]) <= {"200", "429", "503"}
    late = report["past_deadline"] or report["recovered_after_s"] is None or report["recovered_after_s"] > 10
    return int(not allowed or bool(late))


if __name__ == "__main__":
    sys.exit(main())
