"""Calls the graph through its Serve handle, and translates Ray's exceptions.

The only module of `batch` that knows Ray.
"""

from __future__ import annotations

from typing import Any

from ray.serve.handle import DeploymentHandle

from serve_app.batch.patience import ServiceAway
from serve_app.errors import GensegError, InternalError, Overloaded
from serve_app.schemas.dicts import ResultDict
from serve_app.schemas.requests import SegmentRequest
from serve_app.serving.ray_errors import RAY_ERRORS, CallEnd, call_end, raised_by_replica


class HandleSegment:
    """Segments rows on a running application.

    Args:
        handle: the handle of the application's ingress.
    """

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    async def __call__(self, request: SegmentRequest) -> ResultDict:
        """Send one request and return the result document.

        Raises:
            Overloaded: the service's queues are full.
            ServiceAway: no ingress replica runs, or the one that worked on the request died.
            GensegError: the error with which the service answered.
        """
        try:
            document: ResultDict = await self._handle.segment.remote(request)
            return document
        except RAY_ERRORS as error:
            raise _failure(error) from None


def _failure(error: Exception) -> GensegError:
    answered = raised_by_replica(error)
    if answered is not None:
        return answered
    end = call_end(error)
    if end is CallEnd.FULL:
        return Overloaded("the service's queues are full")
    if end in {CallEnd.DIED, CallEnd.UNAVAILABLE}:
        return ServiceAway(f"no replica answers ({type(error).__name__})")
    return InternalError(f"the service failed on this row ({type(error).__name__})")
