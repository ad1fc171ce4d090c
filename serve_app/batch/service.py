"""The graph through its Serve handle: Ray's exceptions become ours. The only room of the package that knows Ray."""

from __future__ import annotations

from typing import Any

from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from serve_app.batch.patience import ServiceAway
from serve_app.errors import GensegError, InternalError, Overloaded
from serve_app.schemas.requests import SegmentRequest


class HandleSegment:
    """Does jobs on a running application.

    Args:
        handle: of its ingress.
    """

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    async def __call__(self, request: SegmentRequest) -> dict[str, Any]:
        """Do one job.

        Returns:
            The result document.

        Raises:
            Overloaded: the service's queues are full.
            ServiceAway: the ingress died under the request, or there is none.
            GensegError: what the service answered.
        """
        try:
            document: dict[str, Any] = await self._handle.segment.remote(request)
            return document
        except BackPressureError:
            raise Overloaded("the service's queues are full") from None
        except (RayActorError, DeploymentUnavailableError) as error:
            raise ServiceAway(f"no replica answers ({type(error).__name__})") from None
        except RayTaskError as error:
            raise _answered(error) from None
        except RayServeException as error:
            raise ServiceAway(f"the application cannot be called ({type(error).__name__})") from None
        except RayError as error:
            raise InternalError(f"the call failed ({type(error).__name__})") from None


def _answered(error: RayTaskError) -> GensegError:
    # Ray wraps what a replica raises in a class of both kinds, whose own text is a remote traceback.
    cause = error.cause
    return cause if isinstance(cause, GensegError) else InternalError("the service failed on this row")
