"""Replicas that no node can ever hold are named before anybody waits for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.app import default_actor_options
from serve_app.config.models import ModelsConfig, SegmentationModel, TextParserModel
from serve_app.config.placement import Need, needs_of, unplaceable
from serve_app.config.schema import AppConfig

CONFIGS = Path(__file__).parent.parent.parent / "configs"
SMALL = {"CPU": 2.0, "memory": 8e9}
GPU_NODE = {"CPU": 8.0, "GPU": 1.0}


def application(name: str) -> Any:
    (found,) = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["applications"]
    return found


def embedded(**ingress: Any) -> Any:
    app = application("embedded")
    app["deployments"][0].update(ingress)
    return app


def fault(app: Any, *nodes: dict[str, float], config: AppConfig | None = None) -> str | None:
    return unplaceable(needs_of(app, default_actor_options(config or AppConfig(), 0)), nodes)


@pytest.mark.parametrize(
    ("app", "nodes", "expected"),
    [
        (embedded(), [SMALL], None),
        (None, [SMALL], None),
        (
            embedded(num_replicas=2, max_replicas_per_node=1),
            [SMALL],
            "Ingress: 2 replicas do not fit on 1 node with at most 1 per node (max_replicas_per_node)",
        ),
        (embedded(num_replicas=2, max_replicas_per_node=1), [SMALL, SMALL], None),
        (
            embedded(
                num_replicas=None,
                autoscaling_config={"min_replicas": 3, "max_replicas": 9},
                max_replicas_per_node=1,
            ),
            [SMALL, SMALL],
            "Ingress: 3 replicas do not fit on 2 nodes with at most 1 per node (max_replicas_per_node)",
        ),
        (
            embedded(autoscaling_config={"min_replicas": 1, "initial_replicas": 2}, max_replicas_per_node=1),
            [SMALL],
            "Ingress: 2 replicas do not fit on 1 node with at most 1 per node (max_replicas_per_node)",
        ),
        (
            embedded(num_replicas=9),
            [SMALL],
            "Ingress: 9 replicas do not fit on 1 node; each asks for 0.25 CPU, so at most 8 fit",
        ),
        (embedded(num_replicas=8), [SMALL], "the replicas together ask for 2.75 CPU, but there is only 2 here"),
        (
            embedded(ray_actor_options={"resources": {"entrance": 1}}),
            [SMALL],
            "Ingress asks for 1 entrance per replica, but there is no entrance here",
        ),
        (
            embedded(ray_actor_options={"num_cpus": 3}),
            [SMALL, {"CPU": 1.0}],
            "Ingress asks for 3 CPU per replica, but no node has more than 2",
        ),
        (
            application("one-gpu"),
            [{"CPU": 8.0}],
            "ParserDeployment asks for 0.4 GPU per replica, but there is no GPU here",
        ),
        (application("one-gpu"), [GPU_NODE], None),
        (
            application("multi-gpu"),
            [GPU_NODE],
            "Ingress: 2 replicas do not fit on 1 node with at most 1 per node (max_replicas_per_node)",
        ),
        (application("multi-gpu"), [GPU_NODE] * 6, None),
    ],
)
def test_replicas_without_room_are_named(app: Any, nodes: list[dict[str, float]], expected: str | None) -> None:
    assert fault(app, *nodes) == expected


def test_options_that_are_left_empty_count_as_rays_defaults() -> None:
    app = embedded(ray_actor_options={"num_cpus": None, "num_gpus": None}, num_replicas="auto")
    assert needs_of(app, {"Ingress": {"num_cpus": 0.25}}) == [Need("Ingress", 1, None, {"CPU": 1.0})]


def test_what_asks_for_nothing_finds_room() -> None:
    assert unplaceable([Need("A", 3, None, {}), Need("B", 0, 1, {"GPU": 1.0})], [SMALL]) is None
    assert unplaceable([Need("A", 3, None, {"GPU": 1 / 3})], [GPU_NODE]) is None


def test_a_device_auto_asks_for_a_share_where_the_cluster_has_gpus() -> None:
    def gpus(cluster_gpus: float, config: AppConfig | None = None) -> list[float]:
        options = default_actor_options(config or AppConfig(), cluster_gpus)
        return [options[name]["num_gpus"] for name in ("ParserDeployment", "SegmenterDeployment")]

    def on(device: str, engine: str = "transformers") -> AppConfig:
        parser = TextParserModel(device_map=device, engine=engine)
        return AppConfig(models=ModelsConfig(text_parser=parser, segmentation=SegmentationModel(device=device)))

    assert gpus(0) == [0, 0]
    assert gpus(2) == [0.5, 0.5]
    assert gpus(2, on("cpu")) == [0, 0]
    assert gpus(0, on("cuda")) == [0.5, 0.5]
    assert gpus(2, on("auto", engine="openai")) == [0, 0.5], "the model is on a server"
