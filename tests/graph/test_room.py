"""What a start says of replicas that the running Ray cannot hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.cli.deploy import lacking_room
from serve_app.config.schema import AppConfig

CONFIGS = Path(__file__).parent.parent.parent / "configs"


def document(name: str) -> Any:
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())


@pytest.mark.usefixtures("ray_serve")
def test_a_start_names_replicas_without_room_before_it_deploys_them() -> None:
    assert lacking_room(AppConfig(), None) is None
    assert lacking_room(AppConfig(), document("embedded")) is None
    crowded = document("embedded")
    crowded["applications"][0]["deployments"][0].update(num_replicas=2, max_replicas_per_node=1)
    assert lacking_room(AppConfig(), crowded) == "Ingress: 2 replicas, at most 1 a node, and there is 1 node"
    others = {"applications": [{"import_path": "other:app"}]}
    assert lacking_room(AppConfig(), others) is None


@pytest.mark.usefixtures("ray_serve")
def test_a_start_without_a_gpu_says_so() -> None:
    import ray

    if ray.cluster_resources().get("GPU"):
        pytest.skip("this machine has a GPU")
    assert lacking_room(AppConfig(), document("one-gpu")) == (
        "ParserDeployment asks for 0.4 GPU a replica, and there is no GPU here"
    )
