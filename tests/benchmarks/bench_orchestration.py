"""Orchestration alone: the real graph over HTTP, with models that answer at once.

What is left is ours: HTTP, forms, image headers, hashing, calls between replicas, JPEG decoding, batching, masks of one
object for every second entity, merging, JSON. Client and servers share the machine's cores.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ray import serve
from ray.serve import Application

from serve_app.config import AppConfig
from serve_app.ingress import Ingress
from serve_app.metrics import Metrics
from serve_app.parser_deployment import ParserDeployment
from serve_app.segmenter_deployment import SegmenterDeployment
from tests.benchmarks import machine, pictures
from tests.benchmarks.rows import Row, limited
from tests.benchmarks.serving import Job, percentile, real_serve, send, wait_until_ready

if TYPE_CHECKING:
    from serve_app.models.detections import Detections

IMAGES = 3
CONCURRENCY, REQUESTS = 8, 150
SINGLE_REQUESTS, WARM_UP = 40, 20
ENTITIES = ("red sofa", "dog", "blue car", "tree")
GRID = 288


@dataclass(frozen=True)
class InstantFeatures:
    """Features of nothing, as large as the embedded model's."""

    nbytes: int = 1_200_000


@dataclass(frozen=True)
class InstantPhrase:
    """A phrase's features: the phrase."""

    phrase: str
    nbytes: int = 4_096


class InstantSegmenter:
    """Answers at once: one round object for every second phrase, nothing for the others."""

    resolution_hw = (1008, 1008)

    def __init__(self) -> None:
        y, x = np.mgrid[:GRID, :GRID] / GRID
        self._logits = (40 * (0.2 - np.hypot(y - 0.5, x - 0.4)))[None].astype(np.float32)

    def prepare(self, image: np.ndarray[Any, Any]) -> None:
        """Do nothing with the decoded image."""

    def encode(self, images: Sequence[None]) -> list[InstantFeatures]:
        """Return features of every image."""
        return [InstantFeatures() for _ in images]

    def embed(self, phrases: Sequence[str]) -> list[InstantPhrase]:
        """Return features of every phrase."""
        return [InstantPhrase(phrase) for phrase in phrases]

    def detect(self, pairs: Sequence[Any]) -> list[Detections]:
        """Return one object, or none, for every pair."""
        from serve_app.models.detections import Detections

        found = []
        for pair in pairs:
            count = int(pair.phrase.phrase in ENTITIES[::2])
            boxes = np.tile(np.array([[0.2, 0.3, 0.6, 0.7]], np.float32), (count, 1))
            scores = np.full(count, 0.9, np.float32)
            found.append(Detections(boxes, scores, 0.95 if count else 0.03, self._logits[:count]))
        return found


class InstantReplies:
    """Answers every prompt at once, with the same entities."""

    async def reply(self, prompt: str) -> str:
        """Return the model's text."""
        return json.dumps(ENTITIES)


def load_segmenter(config: AppConfig) -> Any:
    """Make the segmenter; called in its replica."""
    return InstantSegmenter()


def load_replies(config: AppConfig, metrics: Metrics) -> InstantReplies:
    """Make the parser's engine; called in its replica."""
    return InstantReplies()


def graph(config: AppConfig) -> Application:
    """Bind the three deployments as `serve_app.app.bind` does, with the instant models."""
    deployment: Any = serve.deployment
    parser = deployment(ParserDeployment).options(max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.5})
    segmenter = deployment(SegmenterDeployment).options(max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.5})
    ingress = deployment(serve.ingress()(Ingress)).options(
        max_ongoing_requests=config.serving.max_concurrent_requests + 32, ray_actor_options={"num_cpus": 0.25}
    )
    application: Application = ingress.bind(
        config, parser.bind(config, load_replies), segmenter.bind(config, load_segmenter)
    )
    return application


def jobs(seeds: Sequence[int]) -> list[Job]:
    """Make requests of three pictures each; no two are the same."""
    made = [pictures.request(seed) for seed in seeds]
    return [
        Job.multipart(f"{one.prompt} {seed}", one.contextual, one.generated)
        for seed, one in zip(seeds, made, strict=True)
    ]


def check(documents: Sequence[dict[str, Any]]) -> None:
    """Hold every answer against what the instant models said.

    Raises:
        SystemExit: an answer lacks an image or an object.
    """
    for document in documents:
        images = [*document["contextual_images"], document["generated_image"]]
        if len(images) != IMAGES or any(len(image["objects"]) != len(ENTITIES) // 2 for image in images):
            raise SystemExit("an answer is not what the models said")


def run() -> list[Row]:
    """Measure the rate under load, then single requests.

    Returns:
        Images a second, and the milliseconds that a request of three images takes on its own.
    """
    with real_serve() as url:
        serve.run(graph(AppConfig()), name="orchestration")
        wait_until_ready(url)
        send(url, jobs(range(WARM_UP)), CONCURRENCY)
        load = send(url, jobs(range(1000, 1000 + REQUESTS)), CONCURRENCY)
        single = send(url, jobs(range(2000, 2000 + SINGLE_REQUESTS)), 1)
    check([*load.documents, *single.documents])
    what = f"orchestration, models that answer at once, {machine.cores()} cores"
    return [
        limited(
            f"{what}: {CONCURRENCY} requests at a time",
            IMAGES * load.per_second,
            unit="images/s",
            at_least=150.0,
            more={f"p{percent}_ms": 1000 * percentile(load.latencies_s, percent) for percent in (50, 95)},
        ),
        limited(
            f"{what}: one request of {IMAGES} images on its own, p50",
            1000 * percentile(single.latencies_s, 50),
            unit="ms",
            at_most=25.0,
            more={"p95_ms": 1000 * percentile(single.latencies_s, 95)},
        ),
    ]
