"""Export traces by OTLP over HTTP, configured by OpenTelemetry's own variables (`OTEL_*`), without the caller's text.

Ray calls `exporter` in each process that it traces, if Ray was started with the environment variable
`RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH=serve_app.serving.otlp:exporter`. Replicas also read it from `tracing_config` in
a Serve config. Ray's HTTP proxies do not (Ray 2.60), and only they begin the traces of HTTP requests.

Ray's own spans contain text from callers: the path of a URL, the text of an exception. So each span is copied by
`clean` before it is exported.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, Status

from serve_app.errors import ConfigError
from serve_app.serving.replica.otel import PREFIX

PROTOCOL = "http/protobuf"
PROTOCOL_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

PASSES = frozenset(
    {
        "error.type", "request_id", "deployment", "app", "replica_id", "call_method", "request_type", "is_streaming",
        "is_http_request", "is_grpc_request", "route", "http.method", "http.status_code",
        "rpc.system", "rpc.method", "rpc.service", "rpc.grpc.status_code",
    }
)  # fmt: skip
"""Ray's attributes without text from the caller, except the request id. `route` is the application's route prefix."""
PROXY = "proxy_http_request"
"""The name of a proxy's span begins with this. Ray appends the deployment, the method and the URL's path."""
PATH = "request_route_path"
"""Ray's attribute with the URL's path."""
ROUTES = ("/v1/segment", "/v1/entities", "/healthz", "/readyz")
"""Paths that are exported; other paths may contain any text."""


def exporter() -> list[SpanProcessor]:
    """Make the span processors for Ray.

    Returns:
        One processor, which cleans and exports the spans in batches.

    Raises:
        ConfigError: genseg's extra `otel` is not installed, or a variable requests another protocol.
    """
    for variable in PROTOCOL_VARIABLES:
        if os.environ.get(variable, PROTOCOL) not in {"", PROTOCOL}:
            raise ConfigError(f"{variable}: traces are exported by {PROTOCOL} only, got {os.environ[variable]!r}")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise ConfigError("traces need the extra otel: pip install 'genseg[otel]'") from error
    logging.getLogger("opentelemetry.sdk.trace").addFilter(_is_not_about_ended_spans)
    return [BatchSpanProcessor(WordlessExporter(OTLPSpanExporter()))]


def _is_not_about_ended_spans(record: logging.LogRecord) -> bool:
    """Drop a warning of nearly every request: Ray sets attributes of spans that concurrent calls have already ended."""
    return "ended span" not in str(record.msg)


class WordlessExporter(SpanExporter):
    """Exports spans without the caller's text.

    Args:
        exporter: exports the cleaned spans.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Clean and export spans. The processor calls this in a thread."""
        return self._exporter.export([clean(span) for span in spans])

    def shutdown(self) -> None:
        """Stop the exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Send the waiting spans."""
        return self._exporter.force_flush(timeout_millis)


def clean(span: ReadableSpan) -> ReadableSpan:
    """Copy a span without the parts that may contain the caller's text.

    This package's own attributes and those in PASSES are kept; of an exception only the class, of a status only the
    code, of a URL's path only one of ROUTES. The trace state from a caller's `tracestate` header is removed.
    """
    given = span.attributes or {}
    name = span.name
    attributes = {key: value for key, value in given.items() if key in PASSES or key.startswith(PREFIX)}
    if name.startswith(PROXY):
        path = str(given.get(PATH, ""))
        attributes["http.route"] = next((route for route in ROUTES if path.endswith(route)), "other")
        name = f"{PROXY} {attributes['http.route']}"
    return ReadableSpan(
        name,
        context=None if span.context is None else _without_state(span.context),
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        events=[_clean_event(event) for event in span.events],
        links=span.links,
        kind=span.kind,
        instrumentation_scope=span.instrumentation_scope,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
    )


def _without_state(context: SpanContext) -> SpanContext:
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)


def _clean_event(event: Event) -> Event:
    attributes = event.attributes or {}
    kept = {key: value for key, value in attributes.items() if key == "exception.type"}
    return Event(event.name, kept, event.timestamp)
