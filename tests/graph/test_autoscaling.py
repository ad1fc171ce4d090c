"""A real Serve scales by work: a slow parser adds parsers and no segmenter, slow segmenters add segmenters."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ApplicationStatus, ServeDeploySchema

from tests.conftest import png
from tests.graph.slow_fakes import SLOW_PROMPT, SLOW_WIDTH

CONFIGS = Path(__file__).parent.parent.parent / "configs"
NAME = "autoscaling"
PARSER, SEGMENTER = "ParserDeployment", "SegmenterDeployment"
REQUESTS = 8
HASTE = {"min_replicas": 1, "max_replicas": 2, "upscale_delay_s": 1, "downscale_delay_s": 1}
PERIODS = {"metrics_interval_s": 0.5, "look_back_period_s": 2}
TIMEOUT_S = 120


def application() -> dict[str, Any]:
    """configs/embedded.yaml with models that can be slow, scaled as configs/multi-gpu.yaml says, without its delays.

    A pass of either model holds one prompt or one image.
    """
    (app,) = yaml.safe_load((CONFIGS / "embedded.yaml").read_text())["applications"]
    (scaled,) = yaml.safe_load((CONFIGS / "multi-gpu.yaml").read_text())["applications"]
    policies = {each["name"]: each["autoscaling_config"].get("policy") for each in scaled["deployments"]}
    app |= {"name": NAME, "route_prefix": f"/{NAME}", "import_path": "tests.graph.slow_fakes:build"}
    for deployment in app["deployments"]:
        deployment["ray_actor_options"] = {"num_cpus": 0.1}
        if deployment["name"] in (PARSER, SEGMENTER):
            del deployment["num_replicas"]
            deployment["autoscaling_config"] = {**HASTE, **PERIODS, "policy": policies[deployment["name"]]}
            deployment["user_config"] = {"batching": {"max_prompts": 1}}
        if deployment["name"] == SEGMENTER:
            deployment["user_config"] = {"batching": {"max_pixels": 64}}
    return dict(app)


@pytest.fixture(scope="module")
def url(ray_serve: str) -> Iterator[str]:
    client().deploy_apps(ServeDeploySchema.model_validate({"applications": [application()]}))
    wait_until(lambda: serve.status().applications[NAME].status == ApplicationStatus.RUNNING)
    yield f"{ray_serve}/{NAME}/v1/segment"
    serve.delete(NAME)


def client() -> Any:
    """The client with which `serve deploy` sends a file."""
    return _get_global_client()


def replicas(deployment: str) -> int:
    """How many replicas run."""
    found = client().get_serve_details()["applications"][NAME]["deployments"][deployment]["replicas"]
    return sum(each["state"] == "RUNNING" for each in found)


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, serve.status().applications[NAME]
        time.sleep(0.2)


@contextmanager
def load(url: str, **fields: str) -> Iterator[list[int]]:
    """Keep REQUESTS requests under way, two new images each; yields the statuses of the answers so far."""
    numbers, stop, statuses = itertools.count(), threading.Event(), list[int]()
    width = int(fields.pop("width"))

    def request() -> None:
        while not stop.is_set():
            number = next(numbers)
            files = [("contextual", (f"{at}.png", png(width, 4, seed=2 * number + at))) for at in range(2)]
            data = {name: text.replace("NUMBER", str(number)) for name, text in fields.items()}
            statuses.append(httpx.post(url, data=data, files=files, timeout=TIMEOUT_S).status_code)

    threads = [threading.Thread(target=request) for _ in range(REQUESTS)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {*statuses} == {200}


@pytest.mark.timeout(400)
async def test_a_slow_parser_adds_parsers_and_no_segmenter(url: str) -> None:
    def run() -> None:
        segmenters = set()

        def there_are_parsers() -> bool:
            segmenters.add(replicas(SEGMENTER))
            return replicas(PARSER) == HASTE["max_replicas"]

        # Every segmenter call waits for its prompt: sixteen at a time, eight times what Ray's own policy allows.
        with load(url, prompt=f"A DOG {SLOW_PROMPT} NUMBER", width="16"):
            wait_until(there_are_parsers)
            until = time.monotonic() + 4
            wait_until(lambda: there_are_parsers() and time.monotonic() > until)
        assert segmenters == {1}
        wait_until(lambda: replicas(PARSER) == 1)

    await asyncio.to_thread(run)


@pytest.mark.timeout(400)
async def test_slow_segmenters_grow_and_shrink_again(url: str) -> None:
    def run() -> None:
        assert replicas(SEGMENTER) == 1
        with load(url, entities=json.dumps(["dog"]), width=str(SLOW_WIDTH)):
            wait_until(lambda: replicas(SEGMENTER) == HASTE["max_replicas"])
            assert replicas(PARSER) == 1
        wait_until(lambda: replicas(SEGMENTER) == 1)

    await asyncio.to_thread(run)
