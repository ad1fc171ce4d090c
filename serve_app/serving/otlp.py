"""The exporter of traces: by OTLP over HTTP, to where OpenTelemetry's own variables (`OTEL_*`) say, and without words.

Ray calls `exporter` in each process that it traces, if the environment in which Ray starts has
`RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH=serve_app.serving.otlp:exporter`. Replicas also take it from `tracing_config` of
a Serve config. Ray's HTTP proxies do not (Ray 2.60), and no trace of an HTTP request begins anywhere else.

Ray's own spans hold what callers wrote: the path of an address, the text of an exception. So spans are copied before
they leave, with what `clean` lets pass.
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
"""Attributes of Ray that hold none of the caller's words, except the request's id. `route` is the application's
prefix."""
PROXY = "proxy_http_request"
"""Of a proxy's span. Ray puts deployment, method and path of the address behind it."""
PATH = "request_route_path"
"""Where Ray keeps that path."""
ROUTES = ("/v1/segment", "/v1/entities", "/healthz", "/readyz")
"""Paths that are shown; any other may hold anything."""


def exporter() -> list[SpanProcessor]:
    """Make what Ray hands the spans of its process to.

    Raises:
        ConfigError: genseg's extra `otel` is not installed, or a variable asks for another protocol.
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
    """Leave out a warning at nearly every request: Ray sets attributes of spans that calls at the same time ended."""
    return "ended span" not in str(record.msg)


class WordlessExporter(SpanExporter):
    """Exports spans without the caller's words.

    Args:
        exporter: takes the spans that are left.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export spans; called in a thread of the processor."""
        return self._exporter.export([clean(span) for span in spans])

    def shutdown(self) -> None:
        """Take no more spans."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Send what waits."""
        return self._exporter.force_flush(timeout_millis)


def clean(span: ReadableSpan) -> ReadableSpan:
    """Copy a span without what may be words of the caller.

    Our own attributes and those of PASSES stay. Of exceptions only the class stays, of a status only its code, of the
    path of an address only one of ROUTES. The state that a caller's `tracestate` header adds is left out.
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
