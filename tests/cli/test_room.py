"""The message at a start whose replicas do not fit on the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from serve_app.cli.deploy import lacking_room
from serve_app.cli.ray_session import resources_of_this_machine
from serve_app.config.schema import AppConfig

CONFIGS = Path(__file__).parent.parent.parent / "configs"
NODE = {"CPU": 2.0}


def document(name: str) -> Any:
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())


def test_a_start_names_replicas_without_room_before_it_deploys_them() -> None:
    assert lacking_room(AppConfig(), None, [NODE]) is None
    assert lacking_room(AppConfig(), document("embedded"), [NODE]) is None
    assert lacking_room(AppConfig(), document("one-gpu"), [{"CPU": 8.0}]) == (
        "ParserDeployment asks for 0.4 GPU per replica, but there is no GPU here"
    )
    crowded = document("embedded")
    crowded["applications"][0]["deployments"][0].update(num_replicas=2, max_replicas_per_node=1)
    assert lacking_room(AppConfig(), crowded, [NODE]) == (
        "Ingress: 2 replicas do not fit on 1 node with at most 1 per node (max_replicas_per_node)"
    )


def test_applications_of_others_are_left_to_ray() -> None:
    others = {"applications": [{"import_path": "other:app"}]}
    assert lacking_room(AppConfig(), others, [NODE]) is None


def test_a_machine_is_known_before_ray_starts() -> None:
    assert resources_of_this_machine()["CPU"] >= 1
