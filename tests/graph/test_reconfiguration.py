"""As configs/embedded.yaml says, a change of `user_config` restarts no replica and a change of `args` restarts all."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray import serve
from ray.serve._private.client import ServeControllerClient
from ray.serve.context import _get_global_client
from ray.serve.schema import ApplicationStatus, ServeDeploySchema

from tests.conftest import png

EMBEDDED = Path(__file__).parent.parent.parent / "configs" / "embedded.yaml"
NAME = "reconfiguration"
START_TIMEOUT_S = 120


def application(threshold: float, vision_bytes: int, **settings: Any) -> dict[str, Any]:
    """The application of configs/embedded.yaml, under another name, with settings and one argument changed.

    Around fake models, which start at once: what restarts does not depend on them.
    """
    (app,) = yaml.safe_load(EMBEDDED.read_text())["applications"]
    app = copy.deepcopy(app)
    app["name"], app["route_prefix"] = NAME, f"/{NAME}"
    app["import_path"] = "tests.graph.fakes:build"
    app["args"]["cache"]["vision_bytes"] = vision_bytes
    (ingress,) = [deployment for deployment in app["deployments"] if deployment["name"] == "Ingress"]
    ingress["user_config"]["segmentation"]["threshold"] = threshold
    ingress["user_config"].update(settings)
    return dict(app)


def client() -> ServeControllerClient:
    """The client with which `serve deploy` and `serve run` send a file."""
    found = _get_global_client()
    assert found is not None
    return found


def deploy(app: dict[str, Any]) -> None:
    """Do what `serve deploy` does; returns when the application runs as told."""
    client().deploy_apps(ServeDeploySchema.model_validate({"applications": [app]}))
    wait_until(lambda: serve.status().applications[NAME].status == ApplicationStatus.RUNNING, START_TIMEOUT_S)


def wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, serve.status().applications[NAME]
        time.sleep(0.2)


def replicas() -> dict[str, set[str]]:
    """The running replicas of each deployment, by id."""
    details = client().get_serve_details()["applications"][NAME]
    return {
        name: {replica["replica_id"] for replica in deployment["replicas"] if replica["state"] == "RUNNING"}
        for name, deployment in details["deployments"].items()
    }


def reported_threshold() -> float:
    """The threshold that a request without one gets."""
    handle = serve.get_app_handle(NAME)
    image = {"data": png(), "name": "noise.png"}
    result = handle.segment.remote({"entities": ["dog"], "contextual_images": [image]}).result(timeout_s=60)
    return float(result["meta"]["threshold"])


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("ray_serve")
async def test_user_config_keeps_the_replicas_and_args_restart_them() -> None:
    def run() -> None:
        deploy(application(threshold=0.5, vision_bytes=1000))
        first = replicas()
        assert set(first) == {"Ingress", "ParserDeployment", "SegmenterDeployment"}
        assert reported_threshold() == 0.5

        deploy(application(threshold=0.25, vision_bytes=1000))
        wait_until(lambda: reported_threshold() == 0.25, timeout_s=15)
        assert replicas() == first

        # A bad value is refused as a whole, and what was there before stays.
        deploy(application(threshold=7, vision_bytes=1000, limits={"max_images": 1}))
        time.sleep(1)
        assert reported_threshold() == 0.25
        assert replicas() == first

        deploy(application(threshold=0.25, vision_bytes=2000))
        second = replicas()
        assert all(second[name] and not second[name] & first[name] for name in first)
        serve.delete(NAME)

    await asyncio.to_thread(run)


WRONG = {
    "Ingress": ({"auth": {"token_env": "GENSEG_NO_SUCH_VARIABLE"}}, "GENSEG_NO_SUCH_VARIABLE is not set, or empty"),
    "ParserDeployment": ({"batching": {"max_prompts": 0}}, "batching.max_prompts: must be at least 1"),
    "SegmenterDeployment": ({"limitz": {}}, "unknown key 'limitz'"),
}


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("ray_serve")
async def test_no_deployment_starts_on_a_first_user_config_that_is_wrong() -> None:
    def run() -> None:
        names = {f"wrong-{deployment.lower()}": deployment for deployment in WRONG}
        apps = []
        for name, deployment in names.items():
            app = {**application(threshold=0.5, vision_bytes=1000), "name": name, "route_prefix": f"/{name}"}
            (wrong,) = [each for each in app["deployments"] if each["name"] == deployment]
            wrong["user_config"] = WRONG[deployment][0]
            app["args"]["serving"] = {**app["args"].get("serving", {}), "max_failed_starts": 4}  # 20 take minutes
            apps.append(app)
        client().deploy_apps(ServeDeploySchema.model_validate({"applications": apps}))

        def states() -> dict[str, str]:
            found = serve.status().applications
            return {name: found[name].status if name in found else "absent" for name in names}

        deadline = time.monotonic() + START_TIMEOUT_S
        while set(states().values()) != {ApplicationStatus.DEPLOY_FAILED}:
            assert ApplicationStatus.RUNNING not in states().values()
            assert time.monotonic() < deadline, states()
            time.sleep(0.2)
        for name, deployment in names.items():
            report = serve.status().applications[name].deployments[deployment].message
            assert f"user_config of {deployment}: " in report
            assert WRONG[deployment][1] in report
            serve.delete(name)

    await asyncio.to_thread(run)
