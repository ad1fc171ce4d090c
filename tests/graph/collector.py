"""Receives traces by OTLP over HTTP, as a collector does, and keeps the spans."""

from __future__ import annotations

import gzip
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue


@dataclass(frozen=True)
class Received:
    """One span as it came, and the process that sent it."""

    name: str
    trace: str
    span: str
    parent: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any]
    failed: bool
    events: tuple[tuple[str, Mapping[str, Any]], ...]
    service: str

    @property
    def deployment(self) -> Any:
        """The replica's deployment, in Ray's span of a request there."""
        return self.attributes.get("deployment")


@dataclass
class Collector:
    """What has come so far.

    Attributes:
        bodies: the messages as they came, for a search in all of their bytes.
    """

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    spans: list[Received] = field(default_factory=list)

    def trace(self, trace: str) -> list[Received]:
        """The spans of one trace."""
        return [span for span in self.spans if span.trace == trace]

    def wait(self, done: Callable[[], bool], timeout_s: float = 30.0) -> None:
        """Wait until the received spans satisfy a condition; on a timeout the failure lists them."""
        deadline = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < deadline, sorted(Counter(span.name for span in self.spans).items())
            time.sleep(0.1)

    def take(self, body: bytes) -> None:
        """Keep the spans of a message."""
        self.bodies.append(body)
        for of_process in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _values(of_process.resource.attributes)
            for of_scope in of_process.scope_spans:
                for span in of_scope.spans:
                    self.spans.append(
                        Received(
                            span.name,
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            span.start_time_unix_nano,
                            span.end_time_unix_nano,
                            _values(span.attributes),
                            span.status.code == span.status.STATUS_CODE_ERROR,
                            tuple((event.name, _values(event.attributes)) for event in span.events),
                            str(resource.get("service.name")),
                        )
                    )


def _values(pairs: Any) -> dict[str, Any]:
    def value(given: AnyValue) -> Any:
        kind = given.WhichOneof("value")
        return None if kind is None else getattr(given, kind)

    return {pair.key: value(pair.value) for pair in pairs if isinstance(pair, KeyValue)}


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector on a free port of this machine."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.take(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
