"""Resolve the device `auto` on a cluster, from the GPUs that Ray has, may add, and assigned to this replica.

In Ray 2.60 a process that requested no GPU still sees all GPUs. If its model used one, it would share that GPU with the
replica to which Ray assigns it, and Ray would not know.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TypeVar

import ray
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray.experimental.internal_kv import _internal_kv_get

from serve_app.config.devices import with_auto_on_cpu
from serve_app.config.schema import AppConfig

Model = TypeVar("Model")


def cluster_gpus() -> float:
    """Count the GPUs that Ray knows of; 0 if Ray is not running."""
    return float(ray.cluster_resources().get("GPU", 0)) if ray.is_initialized() else 0.0


def is_autoscaled() -> bool:
    """Return whether this cluster has an autoscaler. Ray does not say which kinds of nodes it may add."""
    if not ray.is_initialized():
        return False
    status: bytes | None = None
    instances: list[str] = []
    with suppress(Exception):  # a failure here costs only a warning
        status = _internal_kv_get(DEBUG_AUTOSCALING_STATUS)
    with suppress(Exception):
        from ray.autoscaler.v2.sdk import get_cluster_status

        found = get_cluster_status(ray.get_runtime_context().gcs_address)
        instances = [node.instance_id for node in (*found.active_nodes, *found.idle_nodes)]
    with suppress(ValueError, AttributeError):  # the status does not have the expected shape
        return shows_autoscaler(status, instances)
    return False


def shows_autoscaler(status: bytes | None, instances: Iterable[str]) -> bool:
    """Return whether Ray's state shows an autoscaler that can add nodes.

    Args:
        status: the JSON that autoscaler version 1 (`ray up`, older KubeRay) writes for `ray status`. Version 1 also
            runs on clusters without any node type to add; it then names each node's type `node_` plus the node's id.
        instances: the nodes' names at their cloud provider. Only autoscaler version 2 (KubeRay) sets them; otherwise
            each is an empty string.
    """
    report = json.loads(status).get("autoscaler_report") if status else None
    types = (report or {}).get("active_nodes") or {}
    return any(instances) or any(not name.startswith("node_") for name in types)


def assigned_gpus() -> int:
    """Count the GPUs that Ray assigned to this process; a share of one counts as one."""
    return len(ray.get_runtime_context().get_accelerator_ids()["GPU"])


def on_assigned_device(
    load: Callable[[AppConfig], Model], assigned: Callable[[], int] = assigned_gpus
) -> Callable[[AppConfig], Model]:
    """Make a loader for a replica in which `auto` means the CPU if Ray assigned the replica no GPU.

    Args:
        load: loads the model.
        assigned: counts the GPUs that Ray assigned to this process.
    """
    return partial(_load, load, assigned)


def _load(load: Callable[[AppConfig], Model], assigned: Callable[[], int], config: AppConfig) -> Model:
    return load(config if assigned() else with_auto_on_cpu(config))
