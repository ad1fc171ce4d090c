"""Classify the exceptions that Ray raises when a call to a deployment fails. No other module knows these classes."""

from __future__ import annotations

from enum import Enum, auto

from ray.exceptions import RayActorError, RayError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, RayServeException

from serve_app.errors import GensegError

RAY_ERRORS = (RayError, RayServeException)
"""The base classes of Ray's exceptions."""


class CallEnd(Enum):
    """Why a call ended without an answer."""

    CANCELLED = auto()
    """Ray cancelled the call, as it does when the client of a request disconnects."""
    DIED = auto()
    """The replica died; another one may do the work."""
    FULL = auto()
    """The deployment's queues are full."""
    UNAVAILABLE = auto()
    """The deployment does not exist, or accepts no calls at the moment (for example, its replicas failed to start)."""
    FAILED = auto()
    """Any other reason."""


def call_end(error: BaseException) -> CallEnd:
    """Return why a call ended.

    Args:
        error: one of RAY_ERRORS.
    """
    if isinstance(error, TaskCancelledError):
        return CallEnd.CANCELLED
    if isinstance(error, RayActorError):
        return CallEnd.DIED
    if isinstance(error, BackPressureError):
        return CallEnd.FULL
    if isinstance(error, RayServeException) and not isinstance(error, RayTaskError):
        return CallEnd.UNAVAILABLE
    return CallEnd.FAILED


def raised_by_replica(error: BaseException) -> GensegError | None:
    """Return the GensegError that the replica raised; None if it raised something else.

    Ray wraps it in an exception that is both a RayTaskError and a GensegError, with a remote traceback as its text.
    """
    cause = error.cause if isinstance(error, RayTaskError) else None
    return cause if isinstance(cause, GensegError) else None
