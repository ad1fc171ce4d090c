"""A Ray with Serve of its own for a benchmark, and a closed-loop load for any HTTP server."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx

START_TIMEOUT_S = 120.0


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def real_serve(cpus: int = 4) -> Iterator[str]:
    """Start a private Ray with Serve and its HTTP proxy, and stop it at the end, its files included.

    Args:
        cpus: what Ray believes to have, for placing replicas; not a limit.

    Yields:
        The HTTP address.
    """
    # Before the import: Ray reads it once.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")
    import ray
    from ray import serve

    port = free_port()
    folder = tempfile.mkdtemp(prefix="bench-")  # short: socket paths inside may have 107 characters
    try:
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=folder,
        )
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        yield f"http://127.0.0.1:{port}"
    finally:
        with suppress(Exception):
            ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Job:
    """A request, ready to be sent: the client spends the same time on it whichever server gets it."""

    body: bytes
    content_type: str

    @classmethod
    def multipart(cls, prompt: str, contextual: Sequence[bytes], generated: bytes) -> Job:
        """Encode a form with a prompt and image files."""
        files = [("contextual", (f"context_{index}.jpg", data)) for index, data in enumerate(contextual)]
        form = httpx.Request(
            "POST",
            "http://server/",
            data={"prompt": prompt},
            files=[*files, ("generated", ("generated.jpg", generated))],
        )
        return cls(form.read(), form.headers["content-type"])


@dataclass(frozen=True)
class Load:
    """What a load told: seconds of the whole, seconds of each request, and the documents, in the jobs' order."""

    seconds: float
    latencies_s: list[float]
    documents: list[dict[str, Any]]

    @property
    def per_second(self) -> float:
        """Requests answered in a second."""
        return len(self.documents) / self.seconds


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100).__trunc__() - 1)]


NONE: Mapping[str, str] = {}


def send(url: str, jobs: Sequence[Job], concurrency: int, headers: Mapping[str, str] = NONE) -> Load:
    """Send all jobs, so many at a time, each as soon as another is answered; with further headers.

    Raises:
        httpx.HTTPStatusError: a request was not answered with 200.
    """
    return asyncio.run(_send(url, jobs, concurrency, headers))


async def _send(url: str, jobs: Sequence[Job], concurrency: int, headers: Mapping[str, str]) -> Load:
    latencies = [0.0] * len(jobs)
    documents: list[dict[str, Any]] = [{} for _ in jobs]
    waiting = iter(enumerate(jobs))
    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(base_url=url, timeout=600.0, limits=limits, trust_env=False) as client:

        async def sender() -> None:
            for index, job in waiting:
                started = time.perf_counter()
                kind = {"content-type": job.content_type}
                answer = await client.post("/v1/segment", content=job.body, headers={**headers, **kind})
                latencies[index] = time.perf_counter() - started
                answer.raise_for_status()
                documents[index] = answer.json()

        started = time.perf_counter()
        await asyncio.gather(*(sender() for _ in range(concurrency)))
        return Load(time.perf_counter() - started, latencies, documents)


def wait_until_ready(url: str, timeout_s: float = START_TIMEOUT_S) -> None:
    """Wait until a server's models answer.

    Raises:
        TimeoutError: they do not.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/readyz", timeout=10.0, trust_env=False).status_code == 200:
                return
        time.sleep(0.2)
    raise TimeoutError(f"{url} was not ready within {timeout_s:g} s")
