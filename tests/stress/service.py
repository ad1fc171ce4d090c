"""A real service for the long runs, and requests for it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import ray
from ray import serve

from serve_app.app import APP_NAME, bind
from serve_app.cli.demo import bundled_request
from serve_app.config.schema import AppConfig
from serve_app.schemas.requests import ImageInput
from tests.conftest import free_port

REPLICA_PREFIX = "SERVE_REPLICA::"


@contextmanager
def running(config: AppConfig, replicas: dict[str, int]) -> Iterator[str]:
    """Serve the graph.

    Args:
        config: of the graph.
        replicas: how many of each deployment, by name.

    Yields:
        The HTTP address.
    """
    port = free_port()
    ray.init(address="local", num_cpus=16, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        options = {name: {"num_replicas": count} for name, count in replicas.items()}
        serve.run(bind(config, options), name=APP_NAME, route_prefix="/")
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


def replica_names(deployment: str) -> list[str]:
    """Actor names of a deployment's replicas that live now."""
    prefix = f"{REPLICA_PREFIX}{APP_NAME}#{deployment}#"
    return [
        entry["name"] for entry in ray.util.list_named_actors(all_namespaces=True) if entry["name"].startswith(prefix)
    ]


def kill_one(deployment: str) -> bool:
    """Kill a replica of a deployment at random; False if there is none."""
    names = replica_names(deployment)
    if not names:
        return False
    ray.kill(ray.get_actor(random.choice(names), namespace="serve"))
    return True


@dataclass(frozen=True)
class Job:
    """One request and how to tell that its answer is right."""

    form: dict[str, str]
    files: list[tuple[str, tuple[str, bytes]]]
    expected: Any = None


def jobs(count: int, seed: int = 0) -> list[Job]:
    """Requests over the bundled images: prompts and given entities, one to three images."""
    request = bundled_request()
    sources = [*request.contextual_images, request.generated_image]
    pick = random.Random(seed)
    entity_sets = ('["dog"]', '["red sofa", "dog"]', '["tree", "soccer ball", "yellow balloon"]')
    made = []
    for _ in range(count):
        chosen = pick.sample(sources, pick.randint(1, 3))
        form = {"prompt": request.prompt} if pick.random() < 0.5 else {"entities": pick.choice(entity_sets)}
        made.append(Job(form, [("contextual", (f"{index}.jpg", data(image))) for index, image in enumerate(chosen)]))
    return made


def data(image: ImageInput | None) -> bytes:
    """The bytes of a bundled image."""
    assert image is not None
    assert isinstance(image.data, bytes)
    return image.data


def objects(document: dict[str, Any]) -> Any:
    """What an answer is compared by: labels, boxes and masks of every image, or None where one failed."""
    return [
        None
        if image["objects"] is None
        else [(found["object_id"], found["bbox"], found["mask_rle"]["counts"]) for found in image["objects"]]
        for image in document["contextual_images"]
    ]


async def post(http: httpx.AsyncClient, url: str, job: Job, timeout_s: float = 60.0) -> tuple[int, float, Any]:
    """Send one request; returns status (0 where no answer came), seconds and the parsed body."""
    started = time.monotonic()
    form = {**job.form, "timeout_s": str(timeout_s)}
    try:
        answer = await http.post(f"{url}/v1/segment", data=form, files=job.files, timeout=timeout_s + 10)
        body = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        return 0, time.monotonic() - started, {"error": {"code": type(error).__name__}}
    return answer.status_code, time.monotonic() - started, body
