"""Record OpenTelemetry spans in the traces of Ray Serve. Other modules import this one only inside functions.

Ray makes a tracer provider in each of its processes (proxies and replicas) at start, and each process samples
independently. If the proxy does not trace a request, the replicas may still trace their parts of it, each as a separate
trace. `whole_traces_only` prevents that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, TraceState
from opentelemetry.util.types import Attributes

from serve_app.errors import GensegError
from serve_app.serving.replica.stage import Stage

SCOPE = "genseg"
PREFIX = "genseg."
"""The prefix of this package's own attributes."""

STARTS = frozenset(
    {
        "proxy_http_request",  # Source: ray.serve._private.proxy, HTTPProxy.send_request_to_replica
        # Handle calls from outside Serve. Source: ray.serve._private.replica, ReplicaBase._tracing_context
        "replica_handle_request Ingress segment",
        "replica_handle_request Ingress segment_stream",
    }
)
"""Ray's names for the spans that begin a request."""


class WholeTraces(Sampler):
    """Begins traces only at the spans in STARTS.

    Args:
        sampler: decides for those spans, and for spans with a parent.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide whether to record a span."""
        if not trace.get_current_span(parent_context).get_span_context().is_valid and name not in STARTS:
            return SamplingResult(Decision.DROP)
        return self._sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """Return the sampler's name."""
        return f"WholeTraces{{{self._sampler.get_description()}}}"


def whole_traces_only() -> TracerProvider | None:
    """Let this process begin traces only where requests begin. Call it before the first span.

    Returns:
        Ray's tracer provider; None if Ray does not trace this process.
    """
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        return None
    if not isinstance(provider.sampler, WholeTraces):
        provider.sampler = WholeTraces(provider.sampler)
    return provider


class RequestSpans:
    """Records spans below the span that Ray began in this replica for the current request.

    Args:
        provider: the tracer provider of this process.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer(SCOPE)

    def record(self, name: str, started: float, ended: float, stage: Stage, error: BaseException | None) -> None:
        """Record a finished stage, and a `queue` span before it if it waited; times by time.perf_counter."""
        if not trace.get_current_span().is_recording():
            return
        offset = time.time_ns() - round(time.perf_counter() * 1e9)
        if stage.began is not None:
            self._record("queue", offset, started, stage.began, {"genseg.queue": name}, None)
            started = stage.began
        self._record(name, offset, started, ended, {PREFIX + key: count for key, count in stage.counts.items()}, error)

    def _record(
        self, name: str, offset: int, started: float, ended: float, attributes: Attributes, error: BaseException | None
    ) -> None:
        span = self._tracer.start_span(name, attributes=attributes, start_time=offset + round(started * 1e9))
        if error is not None:
            span.set_attribute("error.type", error_type(error))
            span.set_status(Status(StatusCode.ERROR))
        span.end(offset + round(ended * 1e9))

    def add(self, name: str, amount: int = 1) -> None:
        """Add to a count in Ray's span of the current request."""
        span = trace.get_current_span()
        if isinstance(span, Span) and span.is_recording():
            count = (span.attributes or {}).get(PREFIX + name, 0)
            span.set_attribute(PREFIX + name, amount + (count if isinstance(count, int) else 0))

    def answered(self, status: int, code: str | None) -> None:
        """Record in Ray's span how the current request ended; `code` is the error's, None without an error."""
        span = trace.get_current_span()
        if code is not None and span.is_recording():
            span.set_attribute("error.type", code)
            if status >= 500:
                span.set_status(Status(StatusCode.ERROR))


def error_type(error: BaseException) -> str:
    """Return an error's code or class name, never its text, which may quote the caller."""
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return error.code if isinstance(error, GensegError) else type(error).__name__
