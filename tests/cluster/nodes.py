"""A Ray cluster of several nodes on this machine, with GPUs that exist in Ray's books only, and what runs where."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import ray
from ray import serve
from ray._private.state import available_resources_per_node
from ray.cluster_utils import Cluster
from ray.serve._private.client import ServeControllerClient
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from serve_app.app import APP_NAME
from tests.conftest import free_port

ENTRANCE = "entrance"
"""A custom resource of the head node, for ingresses that must live there."""
GPU_NODE_CPUS, HEAD_CPUS = 8, 4
START_TIMEOUT_S = 180.0


@dataclass
class Nodes:
    """The cluster: a head without a GPU, which holds the HTTP proxy, and GPU nodes that come and go.

    Attributes:
        url: of the service.
        headers: of requests, with the token that configs/multi-gpu.yaml asks for.
        gpu_nodes: Ray's handles of the GPU nodes, by node id.
    """

    cluster: Cluster
    url: str
    headers: dict[str, str]
    gpu_nodes: dict[str, Any] = field(default_factory=dict)

    def grow_to(self, count: int) -> None:
        """Add GPU nodes until there are so many."""
        while len(self.gpu_nodes) < count:
            node = self.cluster.add_node(num_cpus=GPU_NODE_CPUS, num_gpus=1)
            self.gpu_nodes[node.node_id] = node

    def kill(self, node_id: str) -> None:
        """Kill a node's processes at once, as if the machine were lost; nothing is drained or shut down."""
        self.cluster.remove_node(self.gpu_nodes.pop(node_id), allow_graceful=False)

    def gpus_free(self, node_id: str) -> float:
        """The part of a node's GPU that Ray has not assigned."""
        return float(available_resources_per_node().get(node_id, {}).get("GPU", 0.0))


@contextmanager
def running(token: str) -> Iterator[Nodes]:
    """Start the head and Serve; everything ends with the context.

    Args:
        token: that the service asks for.

    Serve's proxies share one address here, so there is one, on the head, whatever `proxy_location` says.
    """
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": HEAD_CPUS,
            "num_gpus": 0,
            "resources": {ENTRANCE: 100},
            "include_dashboard": False,
            "object_store_memory": 400 * 1024 * 1024,
        },
    )
    try:
        ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
        port = free_port()
        serve.start(http_options={"host": "127.0.0.1", "port": port, "location": "HeadOnly"})
        yield Nodes(cluster, f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {token}"})
        serve.shutdown()
    finally:
        ray.shutdown()
        cluster.shutdown()


def client() -> ServeControllerClient:
    """The client with which `serve deploy` sends a file."""
    found = _get_global_client()
    assert found is not None
    return found


def send(app: dict[str, Any]) -> None:
    """Do what `serve deploy` does; returns at once."""
    client().deploy_apps(ServeDeploySchema.model_validate({"applications": [app]}))


def deploy(app: dict[str, Any]) -> float:
    """Send an application and wait until it runs as told; returns the seconds that it took."""
    send(app)
    return wait_until(is_running, START_TIMEOUT_S)


def delete() -> None:
    """Delete the application and wait until its resources are free again."""
    serve.delete(APP_NAME)
    free = ray.cluster_resources()["CPU"]
    wait_until(lambda: ray.available_resources().get("CPU", 0) >= free, 60)


def is_running() -> bool:
    """Whether every deployment is as it was told to be."""
    return application_status() == "RUNNING"


def application_status() -> str:
    """Ray's word for the application's state."""
    return str(serve.status().applications[APP_NAME].status.value)


def deployment_status(deployment: str) -> tuple[str, str]:
    """Ray's words for a deployment: its state and the message beside it."""
    found = serve.status().applications[APP_NAME].deployments[deployment]
    return str(found.status.value), found.message


def replicas(deployment: str, state: str = "RUNNING") -> dict[str, str | None]:
    """Replicas in a state, by id, each with its node's id; None where it has no node yet."""
    found = details().get(deployment, {"replicas": []})["replicas"]
    return {each["replica_id"]: each.get("node_id") for each in found if each["state"] == state}


def details() -> dict[str, Any]:
    """Serve's status of each deployment; empty while Serve reads a new file."""
    return dict(client().get_serve_details()["applications"][APP_NAME]["deployments"])


def is_ready(url: str) -> bool:
    """Whether both models answer."""
    try:
        return httpx.get(f"{url}/readyz", timeout=10, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def wait_until(condition: Callable[[], bool], timeout_s: float) -> float:
    """Poll until a condition holds; returns the seconds that it took.

    Raises:
        TimeoutError: it never did; with Serve's own words.
    """
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > timeout_s:
            raise TimeoutError(f"not so after {timeout_s:g} s: {serve.status().applications}")
        time.sleep(0.25)
    return round(time.monotonic() - started, 1)
