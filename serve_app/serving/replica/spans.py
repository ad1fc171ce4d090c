"""Where a replica tells the stages of its work: in spans of the request's trace, which Ray Serve has begun.

Imports OpenTelemetry only in replicas and proxies, which Ray may trace.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from serve_app.serving.replica.stage import Stage


class Spans(Protocol):
    """Where a replica tells what it does (see otel.RequestSpans). Each call concerns the request of its context."""

    def record(self, name: str, started: float, ended: float, stage: Stage, error: BaseException | None) -> None:
        """Record a stage that has ended, and before it `queue` if it waited; times by time.perf_counter."""

    def add(self, name: str, amount: int = 1) -> None:
        """Add to a count of the request."""

    def answered(self, status: int, code: str | None) -> None:
        """Record how the request ended."""


def trace_whole_requests() -> None:
    """Let this process begin traces only where requests begin, if Ray traces it; called before its first span."""
    with suppress(ImportError):  # OpenTelemetry comes with Ray, which does without it, too
        from serve_app.serving.replica import otel

        otel.whole_traces_only()


def spans_of_this_process() -> Spans | None:
    """Return where this replica tells what it does; None where Ray does not trace it. Called as the replica starts."""
    try:
        from serve_app.serving.replica import otel
    except ImportError:
        return None
    provider = otel.whole_traces_only()
    return None if provider is None else otel.RequestSpans(provider)
