"""What Ray raises around a call of a deployment, told apart. Nothing else in the package knows these classes."""

from __future__ import annotations

from enum import Enum, auto

from ray.exceptions import RayActorError, RayError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, RayServeException

from serve_app.errors import GensegError

RAY_ERRORS = (RayError, RayServeException)
"""Every exception of Ray's."""


class CallEnd(Enum):
    """How a call ended that has no answer."""

    CANCELLED = auto()
    """Ray cancelled it: it cancels the calls below a request whose client has left."""
    DIED = auto()
    """Its replica died; another one may do the work."""
    FULL = auto()
    """The deployment's queues are full."""
    UNAVAILABLE = auto()
    """There is no such deployment, or it takes no calls at the moment."""
    FAILED = auto()
    """Anything else."""


def call_end(error: BaseException) -> CallEnd:
    """Tell how a call ended.

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
    """Return the error of ours that the replica raised; None where there is none.

    Ray wraps what a replica raises in a class of both kinds, whose own text is a remote traceback.
    """
    cause = error.cause if isinstance(error, RayTaskError) else None
    return cause if isinstance(cause, GensegError) else None
