"""What `auto` as a device means on a cluster: the GPUs that Ray has, may get, and has lent to this replica.

Ray 2.60 hides no GPU from a process that asked for none. A model that took one there would share it, unknown to Ray,
with the replica that Ray lends it to.
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
    """Count the GPUs that Ray knows of; 0 where no Ray runs."""
    return float(ray.cluster_resources().get("GPU", 0)) if ray.is_initialized() else 0.0


def is_autoscaled() -> bool:
    """Say whether an autoscaler adds nodes to this cluster. Ray does not tell which kinds of nodes it may add."""
    if not ray.is_initialized():
        return False
    status: bytes | None = None
    instances: list[str] = []
    with suppress(Exception):  # the answer is for a warning only
        status = _internal_kv_get(DEBUG_AUTOSCALING_STATUS)
    with suppress(Exception):
        from ray.autoscaler.v2.sdk import get_cluster_status

        found = get_cluster_status(ray.get_runtime_context().gcs_address)
        instances = [node.instance_id for node in (*found.active_nodes, *found.idle_nodes)]
    with suppress(ValueError, AttributeError):  # a status of another shape than expected
        return shows_autoscaler(status, instances)
    return False


def shows_autoscaler(status: bytes | None, instances: Iterable[str]) -> bool:
    """Read the traces that Ray's autoscalers leave.

    Args:
        status: what version 1 (`ray up`, older KubeRay) writes for `ray status`: JSON. It also runs where it has no
            node to add; then it names each node's type `node_` and the node's id.
        instances: the nodes' names at their provider. Version 2 (KubeRay) needs them; otherwise they are empty.
    """
    report = json.loads(status).get("autoscaler_report") if status else None
    types = (report or {}).get("active_nodes") or {}
    return any(instances) or any(not name.startswith("node_") for name in types)


def lent_gpus() -> int:
    """Count the GPUs that Ray lent to this process, shares of one included."""
    return len(ray.get_runtime_context().get_accelerator_ids()["GPU"])


def on_lent_device(
    load: Callable[[AppConfig], Model], lent: Callable[[], int] = lent_gpus
) -> Callable[[AppConfig], Model]:
    """Make a loader for a replica, for which `auto` is the CPU where Ray lent the replica no GPU.

    Args:
        load: loads the model.
        lent: counts the GPUs that this process was lent.
    """
    return partial(_load, load, lent)


def _load(load: Callable[[AppConfig], Model], lent: Callable[[], int], config: AppConfig) -> Model:
    return load(config if lent() else with_auto_on_cpu(config))
