"""Which words of a span are exported, and which settings the exporter accepts."""

from __future__ import annotations

import logging

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from serve_app.errors import ConfigError
from serve_app.serving import otlp
from serve_app.serving.otlp import ROUTES, WordlessExporter, exporter
from tests.serving.http.test_routes import FakeService, client


def exported(name: str, path: str = "/v1/segment") -> ReadableSpan:
    """Export a span that holds words of a caller wherever Ray puts them."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(WordlessExporter(kept)))
    attributes: dict[str, str | int] = {
        "request_route_path": path,
        "http.route": path,
        "resource.name": path,
        "http.status_code": 500,
    }
    caller = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("v", "zebra")]))
    context = set_span_in_context(NonRecordingSpan(caller))
    with provider.get_tracer("ray").start_as_current_span(name, context, attributes=attributes) as span:
        span.set_attribute("multiplexed_model_id", "zebra")
        span.set_attribute("genseg.bytes", 5)
        span.record_exception(ValueError("zebra is no image"))
        span.set_status(Status(StatusCode.ERROR, "zebra is no image"))
    (found,) = kept.get_finished_spans()
    return found


def test_words_stay_and_the_rest_leaves() -> None:
    span = exported("proxy_http_request Ingress GET /zebra/v1/segment", "/zebra/v1/segment")
    assert "zebra" not in span.to_json()
    assert span.name == "proxy_http_request /v1/segment"
    assert (span.context.trace_id, span.context.trace_flags, span.parent and span.parent.span_id) == (1, 1, 2)
    assert dict(span.attributes or {}) == {"http.status_code": 500, "http.route": "/v1/segment", "genseg.bytes": 5}
    assert span.status.status_code is StatusCode.ERROR
    assert [(event.name, dict(event.attributes or {})) for event in span.events] == [
        ("exception", {"exception.type": "ValueError"})
    ]


@pytest.mark.parametrize("path", ["/zebra", "/v1/segment/zebra", ""])
def test_a_path_that_is_no_route_is_not_shown(path: str) -> None:
    assert exported(f"proxy_http_request Ingress GET {path}", path).name == "proxy_http_request other"


def test_other_names_stay() -> None:
    assert (
        exported("route_to_replica SegmenterDeployment segment").name == "route_to_replica SegmenterDeployment segment"
    )


async def test_the_paths_that_are_shown_are_routes() -> None:
    service = FakeService()
    async with client(service) as http:
        assert [path for path in ROUTES if (await http.get(path)).status_code not in {200, 405}] == []


def test_the_exporter_batches_and_sends_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="extra `otel` is not installed")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    (processor,) = exporter()
    assert isinstance(processor, BatchSpanProcessor)
    assert isinstance(processor.span_exporter, WordlessExporter)
    processor.shutdown()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("variable", otlp.PROTOCOL_VARIABLES)
def test_another_protocol_is_refused_in_one_line(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "grpc")
    with pytest.raises(ConfigError, match=f"^{variable}: traces are exported by http/protobuf only, got 'grpc'$"):
        exporter()


def test_a_warning_of_ray_s_making_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("opentelemetry.sdk.trace")
    logger.addFilter(otlp._is_not_about_ended_spans)
    try:
        span = TracerProvider().get_tracer("ray").start_span("one")
        span.end()
        span.set_attribute("late", 1)
        logger.warning("anything else")
    finally:
        logger.removeFilter(otlp._is_not_about_ended_spans)
    assert [record.message for record in caplog.records] == ["anything else"]
