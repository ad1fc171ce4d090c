"""What traces cost a request: the service with and without, in five interleaved pairs, and a single stage.

Two services with the embedded models run side by side and take turns every few requests. One has the exporter and
Ray's default ratio of 1 %. Then further loads have a `traceparent` that has every request traced. Each request is new
to both: three images and four entities. The collector takes what it gets and forgets it.
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
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

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


@contextmanager
def server(**variables: str) -> Iterator[str]:
    """Run a service with these variables in its environment; yields its address."""
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
        yield next(line.strip() for line in process.stdout if line.startswith("http://"))
    finally:
        process.stdin.close()
        process.wait(120)


def jobs(seeds: Sequence[int]) -> list[Job]:
    """Make requests."""
    made = [pictures.request(seed) for seed in seeds]
    return [Job.multipart(one.prompt, one.contextual, one.generated) for one in made]


def overhead(plain: str, traced: str, pairs: int, requests: int, headers: Mapping[str, str], first: int) -> list[float]:
    """Send pairs of loads to both services, CHUNK requests in turns, so that what else the machine does hits both.

    Args:
        plain: the address of the service that is not traced.
        traced: the other's.
        pairs: of loads.
        requests: of each load.
        headers: of each request.
        first: seed of the first request.

    Returns:
        What the traced service took more, in per cent of the other's time, for each pair.
    """
    more = []
    for pair in range(pairs):
        took = {plain: 0.0, traced: 0.0}
        for turn, start in enumerate(range(first + pair * requests, first + (pair + 1) * requests, CHUNK)):
            chunk = jobs(range(start, start + CHUNK))
            for url in (plain, traced) if turn % 2 == 0 else (traced, plain):
                took[url] += send(url, chunk, CONCURRENCY, headers).seconds
        more.append(100 * (took[traced] / took[plain] - 1))
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
        for url in (plain, traced):
            send(url, jobs(range(900_000, 900_000 + CONCURRENCY)), CONCURRENCY)  # warms up
        for what, headers, first in (("at the default ratio", {}, 0), ("each request", TRACED, 500_000)):
            more = overhead(plain, traced, pairs, requests, headers, first)
            rows.append(
                limited(
                    f"traces, {what}: what they add to the time of a load, median of {pairs} pairs",
                    statistics.median(more),
                    unit="%",
                    at_most=None if headers else MAX_OVERHEAD,
                    more={"pairs": more, "requests_per_load": requests, "load_average": os.getloadavg()[0]},
                )
            )
    return rows


if __name__ == "__main__":
    print(json.dumps(run()))
