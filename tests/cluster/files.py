"""The Serve configs of configs/ with fake models in the place of the real ones. Pure: dicts in, dicts out."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.fakes import FakeModel

CONFIGS = Path(__file__).parent.parent.parent / "configs"
PARSER, SEGMENTER, INGRESS = "ParserDeployment", "SegmenterDeployment", "Ingress"
READER = FakeModel(delay_s=0.05, presence=0)
OLD, NEW = FakeModel(delay_s=0.1, presence=0.9), FakeModel(delay_s=0.1, presence=0.8)
"""Two versions of the segmentation model."""


def application(name: str, model: FakeModel = OLD) -> dict[str, Any]:
    """The application of a file in configs/, with nothing changed but its models.

    Args:
        name: of the file, without its suffix.
        model: in the segmenter's place.
    """
    (app,) = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["applications"]
    app["import_path"] = "tests.cluster.fakes:build"
    models = app["args"]["models"]
    models["text_parser"]["model_name"], models["segmentation"]["model_name"] = READER.name, model.name
    return dict(app)


def changed(app: dict[str, Any], deployment: str, **options: Any) -> dict[str, Any]:
    """Return a copy with options of one deployment replaced; None takes an option out."""
    app = copy.deepcopy(app)
    entry = deployments(app)[deployment]
    entry.update(options)
    for key in [key for key, value in entry.items() if value is None]:
        del entry[key]
    return app


def fixed(app: dict[str, Any], **replicas: int) -> dict[str, Any]:
    """Return a copy in which deployments have so many replicas, and no autoscaling."""
    for deployment, count in replicas.items():
        app = changed(app, deployment, num_replicas=count, autoscaling_config=None)
    return app


def sharing_gpus(app: dict[str, Any]) -> dict[str, Any]:
    """Return a copy whose replicas ask for one CPU and part of a GPU: one node holds a parser and a segmenter."""
    app = changed(app, PARSER, ray_actor_options={"num_cpus": 1, "num_gpus": 0.4})
    return changed(app, SEGMENTER, ray_actor_options={"num_cpus": 1, "num_gpus": 0.6})


def at_the_entrance(app: dict[str, Any], resource: str) -> dict[str, Any]:
    """Return a copy whose ingresses live on the node that has a custom resource."""
    options = {"num_cpus": 1, "resources": {resource: 1}}
    return changed(app, INGRESS, ray_actor_options=options, max_replicas_per_node=None)


def deployments(app: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The deployments by name, themselves, not copies."""
    return {deployment["name"]: deployment for deployment in app["deployments"]}
