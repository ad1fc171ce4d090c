"""Spans of stages below Ray's span of a request, and where traces may begin."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBasedTraceIdRatio, Sampler

from serve_app.errors import InvalidImage
from serve_app.serving.replica.otel import RequestSpans, WholeTraces
from serve_app.serving.replica.stage import Stage


class Tracing:
    """OpenTelemetry for one test, beside that of the process."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.spans = RequestSpans(self.provider)

    @contextmanager
    def request(self, name: str = "replica_handle_request Ingress segment") -> Iterator[Any]:
        """What Ray does around a request in a replica."""
        with self.provider.get_tracer("ray").start_as_current_span(name) as span:
            yield span

    def ended(self, name: str) -> ReadableSpan:
        (span,) = [span for span in self._exporter.get_finished_spans() if span.name == name]
        return span

    @property
    def names(self) -> list[str]:
        return [span.name for span in self._exporter.get_finished_spans()]


def milliseconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e6


def test_a_stage_is_a_span_below_that_of_the_request_with_its_times_and_counts() -> None:
    tracing = Tracing()
    now = time.perf_counter()
    with tracing.request() as request:
        tracing.spans.record("decode", now - 0.25, now, Stage({"bytes": 7}), None)
    span = tracing.ended("decode")
    assert span.parent is not None
    assert span.parent.span_id == request.get_span_context().span_id
    assert milliseconds(span) == pytest.approx(250, abs=0.01)
    assert abs(time.time_ns() - (span.end_time or 0)) < 60e9
    assert dict(span.attributes or {}) == {"genseg.bytes": 7}


def test_what_waited_is_a_span_of_its_own_before_the_work() -> None:
    tracing = Tracing()
    stage = Stage()
    started = time.perf_counter() - 0.5
    stage.begins(3)
    began = time.perf_counter()
    stage.begins(8)  # a second batch takes more of the same call's items
    stage.begins(2)
    with tracing.request():
        tracing.spans.record("vision", started, began + 1, stage, None)
    queue, vision = tracing.ended("queue"), tracing.ended("vision")
    assert dict(queue.attributes or {}) == {"genseg.queue": "vision"}
    assert dict(vision.attributes or {}) == {"genseg.batch": 8}
    assert queue.end_time == vision.start_time
    assert milliseconds(queue) == pytest.approx(500, abs=50)
    assert milliseconds(vision) == pytest.approx(1000, abs=50)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidImage("zebra.png is broken"), "invalid_image"),
        (asyncio.CancelledError("zebra"), "cancelled"),
        (RuntimeError("zebra"), "RuntimeError"),
    ],
    ids=["ours", "cancelled", "any other"],
)
def test_an_error_is_told_by_its_code_and_not_by_its_text(error: BaseException, kind: str) -> None:
    tracing = Tracing()
    with tracing.request():
        tracing.spans.record("decode", 0.0, 1.0, Stage(), error)
    span = tracing.ended("decode")
    assert not span.status.is_ok
    assert "zebra" not in span.to_json()
    assert (span.attributes or {})["error.type"] == kind


def test_counts_of_a_request_add_up_and_its_end_is_told() -> None:
    tracing = Tracing()
    with tracing.request("one"):
        tracing.spans.add("cache.phrase.hits")
        tracing.spans.add("cache.phrase.hits", 2)
        tracing.spans.answered(200, None)
    with tracing.request("two"):
        tracing.spans.answered(422, "invalid_image")
    with tracing.request("three"):
        tracing.spans.answered(500, "internal")
    one, two, three = map(tracing.ended, ("one", "two", "three"))
    assert dict(one.attributes or {}) == {"genseg.cache.phrase.hits": 3}
    assert dict(two.attributes or {}) == {"error.type": "invalid_image"}
    assert [two.status.is_ok, three.status.is_ok] == [True, False], "what a caller did wrong is no fault of the service"


def test_without_a_traced_request_nothing_is_recorded() -> None:
    tracing = Tracing()
    tracing.spans.record("decode", 0.0, 1.0, Stage(), None)
    tracing.spans.add("retries")
    tracing.spans.answered(500, "internal")
    remote = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=True, trace_flags=trace.TraceFlags(1)))
    with trace.use_span(remote):
        tracing.spans.record("decode", 0.0, 1.0, Stage(), None)
    assert tracing.names == []


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("proxy_http_request", True),
        ("replica_handle_request Ingress segment", True),
        ("replica_handle_request Ingress segment_stream", True),
        ("replica_handle_request Ingress __call__", False),
        ("replica_handle_request SegmenterDeployment segment", False),
        ("route_to_replica", False),
        ("decode", False),
    ],
)
def test_a_trace_begins_only_where_a_request_does(name: str, begins: bool) -> None:
    tracing = Tracing(WholeTraces(ParentBasedTraceIdRatio(1.0)))
    with tracing.request(name), tracing.request("below"):
        pass
    assert tracing.names == (["below", name] if begins else [])


def test_where_a_request_begins_the_ratio_decides_and_below_its_parent() -> None:
    tracing = Tracing(WholeTraces(ParentBasedTraceIdRatio(0.0)))
    with tracing.request("proxy_http_request"):
        pass
    for flags, expected in ((0, []), (1, ["proxy_http_request"])):
        caller = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=True, trace_flags=trace.TraceFlags(flags)))
        with trace.use_span(caller), tracing.request("proxy_http_request"):
            pass
        assert tracing.names == expected


def test_a_replica_that_is_not_traced_has_nobody_to_tell() -> None:
    code = (
        "import sys; from serve_app.serving.replica import spans; "
        "assert 'serve_app.serving.replica.otel' not in sys.modules; print(spans.spans_of_this_process())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "None"
