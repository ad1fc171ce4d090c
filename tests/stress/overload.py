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

import aiohttp
import httpx

from serve_app.config.schema import AppConfig, CacheConfig, ServingConfig
from tests.stress.chaos import load
from tests.stress.service import Job, jobs, post, running

DEADLINE_S = 20.0


async def flood(url: str, rate: float, seconds: float) -> list[tuple[int, float, Any]]:
    """Send requests at a fixed rate, whether or not earlier ones are answered."""
    work = [encoded(url, job) for job in jobs(64)]
    tasks: list[asyncio.Task[tuple[int, float, Any]]] = []
    # aiohttp, which comes with Ray: httpx takes longer for each request the more there are.
    connections = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=DEADLINE_S + 10)
    async with aiohttp.ClientSession(connector=connections, timeout=timeout) as http:
        started = time.monotonic()
        while (elapsed := time.monotonic() - started) < seconds:
            while len(tasks) < rate * elapsed:
                tasks.append(asyncio.create_task(send(http, *work[len(tasks) % len(work)])))
            await asyncio.sleep(0.005)
        return await asyncio.gather(*tasks)


def encoded(url: str, job: Job) -> tuple[str, bytes, str]:
    """Address, body and content type of a job: encoded once, since the sender shares the machine with the service."""
    form = {**job.form, "timeout_s": str(DEADLINE_S)}
    request = httpx.Request("POST", f"{url}/v1/segment", data=form, files=job.files)
    return str(request.url), request.read(), request.headers["content-type"]


async def send(http: aiohttp.ClientSession, url: str, body: bytes, kind: str) -> tuple[int, float, Any]:
    """Send one request; returns status (0 where no answer came), seconds and the error's code, if any."""
    started = time.monotonic()
    try:
        async with http.post(url, data=body, headers={"Content-Type": kind}) as answer:
            text = await answer.read()
            return answer.status, time.monotonic() - started, code_of(answer, text)
    except (aiohttp.ClientError, TimeoutError) as error:
        return 0, time.monotonic() - started, type(error).__name__


def code_of(answer: aiohttp.ClientResponse, text: bytes) -> str | None:
    """The error's code; of Serve's own refusals, which are plain text, a name of ours."""
    if answer.status == 200:
        return None
    try:
        return str(json.loads(text)["error"]["code"])
    except ValueError:
        return "refused by the proxy" if "retry-after" in answer.headers else "refused without Retry-After"


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
        "errors": dict(Counter(code for status, _, code in answers if status != 200)),
        "past_deadline": sum(elapsed > DEADLINE_S + 1 for _, elapsed, _ in answers),
        "p95_of_200_s": round(good[int(0.95 * (len(good) - 1))], 2) if good else None,
        "recovered_after_s": None if recovered is None else round(recovered, 1),
    }


def main() -> int:
    """Run and print; 1 if an answer was of another kind, late, or the service did not recover."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    args = parser.parse_args()
    # Without caches every request is work; with them it is the load's own sender that would be overloaded.
    caches = CacheConfig(vision_bytes=0, prompt_bytes=0)
    config = AppConfig(serving=ServingConfig(max_concurrent_requests=16), cache=caches)
    with running(config, {}) as url:
        report = asyncio.run(run(url, args.seconds))
    print(json.dumps(report, indent=2))
    allowed = set(report["statuses"]) <= {"200", "429", "503"}
    late = report["past_deadline"] or report["recovered_after_s"] is None or report["recovered_after_s"] > 10
    return int(not allowed or bool(late))


if __name__ == "__main__":
    sys.exit(main())
