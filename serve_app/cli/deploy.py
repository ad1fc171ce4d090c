"""Deploys applications to the Ray that was started or joined, waits for them, and says why one does not start."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from serve_app.config.schema import AppConfig
from serve_app.errors import CheckpointError, GensegError, InternalError

if TYPE_CHECKING:
    from ray.serve import Application

_SLOW = re.compile(r"Deployment '(\w+)'.* to be scheduled\..*each replica: (\{.*?\}).*available: (\{.*?\})")


def find_checkpoints(config: AppConfig) -> None:
    """Look for checkpoints that are local folders before anything is started for them.

    Raises:
        CheckpointError: one is not there.
    """
    from serve_app.models import locations

    if config.models.text_parser.engine == "transformers":
        locations.resolve(config.models.text_parser.model_name, "parser")
    locations.resolve(config.models.segmentation.model_name, "segmenter")


def run_application(application: Application, name: str, route_prefix: str | None, *, grows: bool = False) -> None:
    """Deploy an application and wait until it runs; `grows` as in wait_until_running.

    Raises:
        GensegError: it cannot start; the message is the model loader's own where that is the reason.
    """
    from ray import serve

    target = serve.RunTarget(application, name=name, route_prefix=route_prefix)
    serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
    wait_until_running(name, grows=grows)


def wait_until_running(name: str, *, grows: bool) -> None:
    """Wait until an application that was deployed runs.

    Args:
        name: of the application.
        grows: whether the cluster may get the resources that it lacks; if not, waiting for them is an error.

    Raises:
        GensegError: it cannot start.
    """
    from ray import serve

    while True:
        status = serve.status().applications.get(name)
        if status is not None and status.status == "RUNNING":
            return
        if status is not None and status.status in {"DEPLOY_FAILED", "UNHEALTHY"}:
            raise start_failure(_status_text(name))
        lacking = None if grows else unplaced(_status_text(name))
        if lacking is not None:
            raise InternalError(lacking)
        time.sleep(0.2)


def lacking_room(
    config: AppConfig, document: Mapping[str, Any] | None, nodes: Sequence[Mapping[str, float]]
) -> str | None:
    """Find, before anything is deployed, that the nodes cannot hold the replicas.

    Args:
        config: of the graph.
        document: the Serve config, checked; None for a file of our own schema.
        nodes: resources of each node, by Ray's names.

    Returns:
        A line for the user, or None where there is room.
    """
    from serve_app.app import default_actor_options
    from serve_app.config.placement import needs_of, unplaceable
    from serve_app.config.serve_config import IMPORT_PATH

    applications = (document or {}).get("applications", [])
    ours = next((each for each in applications if each.get("import_path") == IMPORT_PATH), None)
    if document is not None and ours is None:
        return None
    options = default_actor_options(config, sum(node.get("GPU", 0) for node in nodes))
    return unplaceable(needs_of(ours, options), nodes)


def unplaced(report: str) -> str | None:
    """Find in Serve's report that a replica waits for resources that this machine lacks.

    Serve reports the same of a replica whose process is slow to start, so the resources are compared.

    Returns:
        A line for the user, or None where no replica lacks anything.
    """
    for deployment, needed, left in _SLOW.findall(report):
        available = json.loads(left)
        if any(amount > available.get(resource, 0) for resource, amount in json.loads(needed).items()):
            return f"{deployment} asks for {needed} a replica, and there is {left} left on this machine"
    return None


def start_failure(report: str) -> GensegError:
    """Find our own line in Ray's report of a failed start, which is a remote traceback."""
    for line in report.replace("\\n", "\n").splitlines():
        for marker in ("CheckpointError: ", "ConfigError: "):
            if marker in line:
                return CheckpointError(line.split(marker, 1)[1].strip())
    lines = [line.strip() for line in report.splitlines() if line.strip()]
    return InternalError(f"the graph could not be started: {lines[-1][:300] if lines else 'no reason given'}")


def _status_text(name: str) -> str:
    from ray import serve

    status = serve.status().applications.get(name)
    if status is None:
        return ""
    return "\n".join([status.message, *(deployment.message for deployment in status.deployments.values())])
