"""Traces of a running service, as a collector gets them: each request is one trace across all processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
import yaml

from tests.conftest import free_port, png
from tests.graph.collector import Collector, Received, collecting
from tests.graph.fakes import DIES, HANGS

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="extra `otel` is not installed")

ROOT = Path(__file__).parents[2]
CALLER = "00f067aa0ba902b7"
"""The span in which the caller sends its requests."""
STAGES = {"body", "fetch", "parse", "queue", "decode", "vision", "detect", "masks", "identity", "merge"}
IMAGE = png(40, 30, seed=1)
WORDS = ("zebra", "okapi", "quagga", "tapir", "dingo", "lemur", "gecko", "heron", "egret")
"""Written by callers where the tests put words: none may leave with a span."""


@dataclass
class Traced:
    """A service whose traces a collector gets; one without a `traceparent` is traced with a probability of a half."""

    url: str
    collector: Collector
    image_url: str
    used: int = 0

    def post(self, trace: str | None, **options: Any) -> httpx.Response:
        """Send a request to be segmented; `trace` names the caller's trace."""
        return self.send("POST", "/v1/segment", trace, **options)

    def send(self, method: str, path: str, trace: str | None, sampled: bool = True, **options: Any) -> httpx.Response:
        """Send any request."""
        own = {} if trace is None else {"traceparent": f"00-{trace}-{CALLER}-{int(sampled):02}"}
        headers = {**own, **options.pop("headers", {})}
        return httpx.request(method, self.url + path, headers=headers, timeout=60, trust_env=False, **options)

    def new_trace(self) -> str:
        """The id of a trace that nobody has used."""
        self.used += 1
        return f"{self.used:032x}"

    def whole(self, trace: str) -> list[Received]:
        """The spans of a trace, once that of the proxy has come and for a second no other."""
        self.collector.wait(lambda: any(span.name.startswith("proxy") for span in self.collector.trace(trace)))
        before = 0
        while before < (now := len(self.collector.trace(trace))):
            before = now
            time.sleep(1.0)
        return self.collector.trace(trace)


@contextmanager
def image_server() -> Iterator[str]:
    """Serve one picture at any path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(IMAGE)))
            self.end_headers()
            self.wfile.write(IMAGE)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def configuration(image_host: str) -> dict[str, Any]:
    return {
        "tracing_config": {
            "enabled": True,
            "exporter_import_path": "serve_app.serving.otlp:exporter",
            "sampling_ratio": 0.5,
        },
        "applications": [
            {
                "name": "segmentation",
                "route_prefix": "/traced",
                "import_path": "tests.graph.fakes:build",
                "args": {"fetch": {"allowed_hosts": [image_host]}},
            }
        ],
    }


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    folder = tmp_path_factory.mktemp("traced")
    port = free_port()
    with collecting() as collector, image_server() as host, (folder / "log").open("w") as log:
        path = folder / "serve.yaml"
        path.write_text(yaml.safe_dump(configuration(host)))
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_SERVICE_NAME": "pictures",
            # A replica that dies soon after a stage takes the stage's span along, as it takes the span around it.
            "OTEL_BSP_SCHEDULE_DELAY": "400",
        }
        command = [sys.executable, "-m", "tests.graph.traced_service", str(path), str(port)]
        service = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        )
        assert service.stdin is not None
        assert service.stdout is not None
        try:
            lines = iter(service.stdout.readline, b"")
            assert b"ready\n" in lines, (folder / "log").read_text()[-3000:]
            threading.Thread(target=drain, args=(service.stdout,), daemon=True).start()
            yield Traced(f"http://127.0.0.1:{port}/traced", collector, f"http://{host}")
        finally:
            service.stdin.close()
            service.wait(60)
    assert "ended span" not in (folder / "log").read_text()


def drain(stream: IO[bytes]) -> None:
    """Read a stream to its end, so that its writer never waits, and close it."""
    with stream:
        for _ in stream:
            pass


def check_connected(spans: list[Received], parent: str) -> None:
    """One root, whose parent is the caller's span if there is one; every other span has its parent in the trace."""
    ids = {span.span for span in spans}
    roots = [span for span in spans if span.parent not in ids]
    assert [(span.name.split()[0], span.parent) for span in roots] == [("proxy_http_request", parent)]
    assert len(ids) == len(spans)


def one(spans: list[Received], name: str) -> Received:
    (span,) = [span for span in spans if span.name == name]
    return span


def test_a_request_is_one_trace_of_the_caller_through_every_process(traced: Traced) -> None:
    trace = traced.new_trace()
    body = {
        "prompt": "A DOG and a CAT",
        "contextual_images": [{"url": f"{traced.image_url}/a.png"}],
        "generated_image": {"url": f"{traced.image_url}/b.png"},
        "verdict": True,
    }
    response = traced.post(trace, json=body)
    assert response.status_code == 200, response.text
    spans = traced.whole(trace)
    check_connected(spans, CALLER)
    assert {span.service for span in spans} == {"pictures"}
    assert {span.name for span in spans} >= STAGES
    handled = {span.span: span.deployment for span in spans if span.name.startswith("replica_handle_request")}
    where = {span.name: handled[span.parent] for span in spans if span.parent in handled and span.name in STAGES}
    assert where == {
        **dict.fromkeys(["body", "fetch", "merge"], "Ingress"),
        "parse": "ParserDeployment",
        **dict.fromkeys(["decode", "queue", "vision", "detect", "masks", "identity"], "SegmenterDeployment"),
    }
    by_id = {span.span: span for span in spans}
    assert all(span.start_ns >= by_id[span.parent].start_ns for span in spans if span.parent in by_id)
    assert not any(span.failed for span in spans)


def test_spans_hold_sizes_and_counts(traced: Traced) -> None:
    trace = traced.new_trace()
    picture = png(50, 20, seed=2)
    files = [("contextual", ("a.png", picture)), ("generated", ("b.png", png(20, 20, seed=3)))]
    sent = traced.post(trace, data={"prompt": "A BIRD and a FISH"}, files=files)
    spans = traced.whole(trace)
    assert dict(one(spans, "body").attributes) == {
        "genseg.bytes": int(sent.request.headers["content-length"]),
        "genseg.images": 2,
    }
    assert dict(one(spans, "parse").attributes) == {"genseg.characters": 17, "genseg.entities": 2}
    assert dict(one(spans, "merge").attributes) == {"genseg.images": 2, "genseg.objects": 4}
    decoded = [dict(span.attributes) for span in spans if span.name == "decode"]
    assert {"genseg.bytes": len(picture), "genseg.pixels": 1000} in decoded
    detected = [span.attributes for span in spans if span.name == "detect"]
    assert [span["genseg.pairs"] for span in detected] == [2, 2]
    assert all(span["genseg.batch"] in {2, 4} for span in detected)
    assert [span.attributes["genseg.objects"] for span in spans if span.name == "masks"] == [2, 2]
    queues = Counter(span.attributes["genseg.queue"] for span in spans if span.name == "queue")
    assert queues == {"vision": 2, "detect": 2}

    again = traced.new_trace()
    traced.post(again, data={"prompt": "A BIRD and a FISH"}, files=files)
    spans = traced.whole(again)
    assert not {"decode", "vision", "parse"} & {span.name for span in spans}
    hits = {key: value for span in spans for key, value in span.attributes.items() if key.startswith("genseg.cache")}
    assert hits == {"genseg.cache.prompt.hits": 1, "genseg.cache.vision.hits": 1, "genseg.cache.phrase.hits": 2}


def test_requests_of_one_batch_have_a_trace_each(traced: Traced) -> None:
    traces = [traced.new_trace() for _ in range(3)]
    widths = (HANGS, 61, 62)

    def send(trace: str, width: int) -> None:
        files = [("generated", ("a.png", png(width, 4, seed=width)))]
        assert traced.post(trace, data={"entities": '["dog"]'}, files=files).status_code == 200

    threads = [threading.Thread(target=send, args=pair) for pair in zip(traces, widths, strict=True)]
    for thread in threads:
        thread.start()
        time.sleep(1.0)  # the model works on the first, and the other two wait
    for thread in threads:
        thread.join()
    for trace, batch, waited_s in zip(traces, (1, 2, 2), (0.0, 1.0, 1.0), strict=True):
        spans = traced.whole(trace)
        check_connected(spans, CALLER)
        assert one(spans, "vision").attributes["genseg.batch"] == batch
        (queue,) = [span for span in spans if span.attributes.get("genseg.queue") == "vision"]
        assert waited_s <= (queue.end_ns - queue.start_ns) / 1e9 < 5
        assert queue.end_ns == one(spans, "vision").start_ns


def test_a_request_is_traced_whole_or_not_at_all(traced: Traced) -> None:
    seen = {span.trace for span in traced.collector.spans}
    unsampled = traced.new_trace()
    for seed in range(10, 26):
        files = [("generated", ("a.png", png(30, 30, seed=seed)))]
        assert traced.post(None, data={"prompt": f"A DOG {seed}"}, files=files).status_code == 200
        assert traced.send("POST", "/v1/segment", unsampled, sampled=False, data={"prompt": "A DOG"}, files=files)
    time.sleep(2.0)
    traces = {span.trace for span in traced.collector.spans} - seen
    assert 0 < len(traces) < 16, "half of those are traced that come without a traceparent"
    assert unsampled not in traces, "the caller has decided"
    for trace in traces:
        spans = traced.collector.trace(trace)
        check_connected(spans, parent="")
        assert {"body", "parse", "vision", "detect", "merge"} <= {span.name for span in spans}


def test_no_word_of_a_caller_leaves_with_a_span(traced: Traced) -> None:
    zebra, okapi, quagga, tapir, dingo, lemur, gecko, heron, egret = WORDS
    headers = {"authorization": f"Bearer {egret}", "user-agent": egret}
    first, second, third = traced.new_trace(), traced.new_trace(), traced.new_trace()
    body = {
        "prompt": f"A {zebra.upper()} and an {okapi.upper()}",
        "contextual_images": [{"url": f"{traced.image_url}/{quagga}.png?{tapir}=1", "name": quagga}],
    }
    traced.post(first, json=body, headers=headers)
    files = [("generated", (f"{dingo}.png", b"not a picture " + dingo.encode()))]
    assert traced.post(second, data={"entities": json.dumps([lemur])}, files=files, headers=headers).status_code == 422
    assert traced.send("GET", f"/{gecko}?{heron}=1", third, headers=headers).status_code == 404
    for trace in (first, second, third):
        check_connected(traced.whole(trace), CALLER)
    assert one(traced.whole(third), "proxy_http_request other").attributes["http.status_code"] == 404
    ingress = one(traced.whole(second), "replica_handle_request Ingress __call__")
    assert (ingress.failed, ingress.attributes["error.type"]) == (False, "invalid_image")
    sent = b"".join(traced.collector.bodies).lower()
    assert [word for word in WORDS if word.encode() in sent] == []


def test_calls_that_are_made_again_are_in_the_same_trace(traced: Traced) -> None:
    trace = traced.new_trace()
    files = [("generated", ("a.png", png(DIES, 4)))]
    assert traced.post(trace, data={"entities": '["dog"]'}, files=files).status_code == 500
    spans = traced.whole(trace)
    check_connected(spans, CALLER)
    tries = [span for span in spans if span.name == "route_to_replica SegmenterDeployment segment"]
    ingress = one(spans, "replica_handle_request Ingress __call__")
    assert {span.parent for span in tries} == {ingress.span}
    assert len(tries) == 1 + ingress.attributes["genseg.retries"] >= 2
    assert (ingress.failed, ingress.attributes["error.type"]) == (True, "internal")
