"""What traces cost a request: the service with and without, in five interleaved pairs, and a single stage.

Two services with the embedded models run side by side and take turns every few requests. One has the exporter and
Ray's default ratio of 1 %. Then further loads have a `traceparent` that has every request traced. Each request is new
to both: three images and four entities. The collector takes what it gets and forgets it. On a machine that does other
things, the time of the cores tells more than the time by the clock.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psutil
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from serve_app.serving.replica.otel import RequestSpans
from serve_app.serving.replica.spans import Spans
from serve_app.serving.replica.stage import Stage
from tests.benchmarks import pictures
from tests.benchmarks.rows import Row, limited
from tests.benchmarks.serving import Job, send

PAIRS, REQUESTS = 5, 32
QUICK_PAIRS, QUICK_REQUESTS = 1, 4
CHUNK = 4
"""Requests that one service gets before the other has its turn."""
CONCURRENCY = 2
MAX_OVERHEAD = 5.0
EXPORTER = "serve_app.serving.otlp:exporter"
TRACED = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
"""Has a request traced. Source: the example of W3C Trace Context."""
STAGES, QUICK_STAGES = 20_000, 200


class Sink(BaseHTTPRequestHandler):
    """Takes traces and forgets them."""

    def do_POST(self) -> None:
        """Take a message."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def sink() -> Iterator[str]:
    """Run a collector; yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True)
class Service:
    """A service that runs: its address, and the process that started its Ray."""

    url: str
    pid: int

    def cpu_s(self) -> float:
        """Seconds of a core that its replicas and its proxy have taken so far."""
        taken = 0.0
        for process in psutil.Process(self.pid).children(recursive=True):
            with suppress(psutil.Error):  # it ended
                if process.cmdline()[0].startswith(("ray::ServeReplica", "ray::ProxyActor")):
                    times = process.cpu_times()
                    taken += times.user + times.system
        return taken


@contextmanager
def server(**variables: str) -> Iterator[Service]:
    """Run a service with these variables in its environment."""
    guard = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_app.serving.http.proxy_guard.middlewares"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.traced_server"],
        env={**os.environ, **guard, **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = next(line.strip() for line in process.stdout if line.startswith("http://"))
        yield Service(url, process.pid)
    finally:
        process.stdin.close()
        process.wait(120)


def jobs(seeds: Sequence[int]) -> list[Job]:
    """Make requests."""
    made = [pictures.request(seed) for seed in seeds]
    return [Job.multipart(one.prompt, one.contextual, one.generated) for one in made]


@dataclass
class Spent:
    """Seconds that the loads of one service took, by the clock and of the cores."""

    clock_s: float = 0.0
    cpu_s: float = 0.0


def overhead(
    plain: Service, traced: Service, pairs: int, requests: int, headers: Mapping[str, str], first: int
) -> list[tuple[float, float]]:
    """Send pairs of loads to both services, CHUNK requests in turns, so that what else the machine does hits both.

    Args:
        plain: the service that is not traced.
        traced: the other.
        pairs: of loads.
        requests: of each load.
        headers: of each request.
        first: seed of the first request.

    Returns:
        What the traced service took more, in per cent of the other: time, and time of the cores; for each pair.
    """
    more = []
    for pair in range(pairs):
        spent = {plain: Spent(), traced: Spent()}
        for turn, start in enumerate(range(first + pair * requests, first + (pair + 1) * requests, CHUNK)):
            chunk = jobs(range(start, start + CHUNK))
            for service in (plain, traced) if turn % 2 == 0 else (traced, plain):
                before = service.cpu_s()
                spent[service].clock_s += send(service.url, chunk, CONCURRENCY, headers).seconds
                spent[service].cpu_s += service.cpu_s() - before
        one, other = spent[traced], spent[plain]
        more.append((100 * (one.clock_s / other.clock_s - 1), 100 * (one.cpu_s / other.cpu_s - 1)))
    return more


def stage_us(spans: Spans | None, stages: int) -> float:
    """Return the microseconds that a stage takes besides its metric: what Metrics.stage does for traces."""
    started = time.perf_counter()
    for _ in range(stages):
        stage = Stage()
        stage.set(bytes=1, pixels=2)
        if spans is not None:
            spans.record("decode", started, started, stage, None)
    return 1e6 * (time.perf_counter() - started) / stages


def of_a_stage(stages: int) -> list[Row]:
    """Measure a stage in a process that is not traced, in a request that is not, and in one that is."""
    sampled, unsampled = TracerProvider(ALWAYS_ON), TracerProvider(ALWAYS_OFF)
    sampled.add_span_processor(SpanProcessor())
    rows = [limited("traces, a stage where nothing is traced", stage_us(None, stages), unit="us")]
    for what, provider in (("is not traced", unsampled), ("is traced, without its export", sampled)):
        with provider.get_tracer("ray").start_as_current_span("request"):
            taken = stage_us(RequestSpans(provider), stages)
        rows.append(limited(f"traces, a stage of a request that {what}", taken, unit="us"))
    return rows


def run(quick: bool = False) -> list[Row]:
    """Measure everything.

    Args:
        quick: one pair of few requests.
    """
    pairs, requests = (QUICK_PAIRS, QUICK_REQUESTS) if quick else (PAIRS, REQUESTS)
    rows = of_a_stage(QUICK_STAGES if quick else STAGES)
    with (
        sink() as collector,
        server(RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH="") as plain,
        server(RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH=EXPORTER, OTEL_EXPORTER_OTLP_ENDPOINT=collector) as traced,
    ):
        for service in (plain, traced):
            send(service.url, jobs(range(900_000, 900_000 + CONCURRENCY)), CONCURRENCY)  # warms up
        for what, headers, first in (("at the default ratio", {}, 0), ("each request", TRACED, 500_000)):
            more = overhead(plain, traced, pairs, requests, headers, first)
            facts = {"requests_per_load": requests, "load_average": os.getloadavg()[0]}
            for of, values in zip(("time", "time of the cores"), zip(*more, strict=True), strict=True):
                rows.append(
                    limited(
                        f"traces, {what}: what they add to the {of} of a load, median of {pairs} pairs",
                        statistics.median(values),
                        unit="%",
                        at_most=MAX_OVERHEAD if of == "time" and not headers else None,
                        more={"pairs": values, **facts},
                    )
                )
    return rows


if __name__ == "__main__":
    print(json.dumps(run()))
