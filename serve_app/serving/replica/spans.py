"""Choose how a replica records the stages of its work: as spans in Ray Serve's traces, or not at all.

OpenTelemetry is imported only in replicas and proxies, because Ray may trace only these processes.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from serve_app.serving.replica.stage import Stage


class Spans(Protocol):
    """Records spans of the current request (see otel.RequestSpans)."""

    def record(self, name: str, started: float, ended: float, stage: Stage, error: BaseException | None) -> None:
        """Record a finished stage, and a `queue` span before it if it waited; times by time.perf_counter."""

    def add(self, name: str, amount: int = 1) -> None:
        """Add to a count of the request."""

    def answered(self, status: int, code: str | None) -> None:
        """Record how the request ended; `code` is the error's, None without an error."""


def trace_whole_requests() -> None:
    """Let this process begin traces only where requests begin, if Ray traces it. Call it before the first span."""
    with suppress(ImportError):  # `ray[serve]` brings OpenTelemetry, but Ray also runs without it
        from serve_app.serving.replica import otel

        otel.whole_traces_only()


def spans_of_this_process() -> Spans | None:
    """Return this replica's recorder of spans; None if Ray does not trace the replica. Call this when it starts."""
    try:
        from serve_app.serving.replica import otel
    except ImportError:
        return None
    provider = otel.whole_traces_only()
    return None if provider is None else otel.RequestSpans(provider)
