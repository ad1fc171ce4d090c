"""Orchestration alone: the real graph over HTTP, with models that answer at once.

What is left is ours: HTTP, forms, image headers, hashing, calls between replicas, JPEG decoding, batching, masks of one
object for every second entity, merging, JSON. Client and servers share the machine's cores.

Beside it the floor: three bare Serve deployments that make the same calls with the same bytes and do nothing else, no
decoding, no masks, no batches. What that costs is Ray Serve's.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import fmean
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request

from serve_app.config.schema import AppConfig
from serve_app.images import decoding
from serve_app.schemas.dicts import SegmentedDict
from serve_app.serving.ingress import Ingress
from serve_app.serving.parser import ParserDeployment
from serve_app.serving.segmenter import SegmenterDeployment
from tests.benchmarks import machine, pictures
from tests.benchmarks.rows import Row, compared
from tests.benchmarks.serving import Job, Load, percentile, real_serve, send, wait_until_ready
from tests.image_document import image_document

if TYPE_CHECKING:
    from serve_app.models.interface import Detections

IMAGES = 3
CONCURRENCY, REQUESTS = 8, 150
SINGLE_REQUESTS, WARM_UP = 40, 20
QUICK_PART = 5
"""A quick run sends one request of so many."""

ENTITIES = ("red sofa", "dog", "blue car", "tree")
GRID = 288
HALF = {"num_cpus": 0.5}


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
        from serve_app.models.interface import Detections

        found = []
        for pair in pairs:
            count = int(pair.phrase.phrase in ENTITIES[::2])
            boxes = np.tile(np.array([[0.2, 0.3, 0.6, 0.7]], np.float32), (count, 1))
            scores = np.full(count, 0.9, np.float32)
            found.append(Detections(boxes, scores, 0.95 if count else 0.03, self._logits[:count]))
        return found


class InstantReplies:
    """Answers every prompt at once, with the same entities."""

    async def reply(self, _: str) -> str:
        """Return the model's text."""
        return json.dumps(ENTITIES)

    async def check(self) -> None:
        """Answer at once."""


def load_identity(config: AppConfig) -> None:
    """Compare no individuals."""


def load_segmenter(_: AppConfig) -> Any:
    """Make the segmenter; called in its replica."""
    return InstantSegmenter()


def load_parser(_: AppConfig) -> InstantReplies:
    """Make the parser's engine; called in its replica."""
    return InstantReplies()


def graph(config: AppConfig) -> Application:
    """Bind the three deployments as `serve_app.app.bind` does, with the instant models."""
    deployment: Any = serve.deployment
    parser = deployment(ParserDeployment).options(max_ongoing_requests=64, ray_actor_options=HALF)
    segmenter = deployment(SegmenterDeployment).options(max_ongoing_requests=64, ray_actor_options=HALF)
    ingress = deployment(serve.ingress()(Ingress)).options(
        max_ongoing_requests=config.serving.max_concurrent_requests + 32, ray_actor_options={"num_cpus": 0.25}
    )
    application: Application = ingress.bind(
        config, parser.bind(config, load_parser), segmenter.bind(config, load_segmenter, load_identity=load_identity)
    )
    return application


class BareModel:
    """A deployment whose answer is its argument's size."""

    async def answer(self, data: bytes) -> int:
        """Answer at once."""
        return len(data)


class BareIngress:
    """Reads a form, makes one call for the prompt and one for each image, all at the same time."""

    def __init__(self, parser: DeploymentHandle[BareModel], segmenter: DeploymentHandle[BareModel]) -> None:
        self._parser, self._segmenter = parser, segmenter

    async def __call__(self, request: Request) -> list[int]:
        """Make the calls and list their answers; an empty list for any other request."""
        if request.method != "POST":
            return []
        form = await request.form()
        files = [await value.read() for _, value in form.multi_items() if not isinstance(value, str)]
        prompt = str(form["prompt"]).encode()
        calls = [self._parser.answer.remote(prompt), *(self._segmenter.answer.remote(data) for data in files)]
        return [*await asyncio.gather(*calls)]


def bare_graph() -> Application:
    """Bind the bare deployments."""
    deployment: Any = serve.deployment
    parser = deployment(BareModel).options(name="BareParser", max_ongoing_requests=64, ray_actor_options=HALF)
    segmenter = deployment(BareModel).options(name="BareSegmenter", max_ongoing_requests=64, ray_actor_options=HALF)
    application: Application = (
        deployment(BareIngress)
        .options(max_ongoing_requests=96, ray_actor_options={"num_cpus": 0.25})
        .bind(parser.bind(), segmenter.bind())
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


def busy_work_ms(seeds: Sequence[int]) -> float:
    """Do the same work in a process on each core at the same time, as the graph's processes share them.

    Cores that share their units with a neighbour take longer for the same work when both are busy.

    Returns:
        Mean processor time of a request, in milliseconds.
    """
    with ProcessPoolExecutor(machine.cores(), get_context("spawn")) as processes:
        return fmean(processes.map(work_ms, [seeds] * machine.cores()))


def work_ms(seeds: Sequence[int]) -> float:
    """Do the same work in this process, without Serve: decode, ask, masks, JSON.

    Returns:
        Mean processor time of a request, in milliseconds.
    """
    segmenter, config = InstantSegmenter(), AppConfig()
    requests = [pictures.request(seed) for seed in seeds]
    started = time.process_time()
    for one in requests:
        images = [in_process(data, segmenter, config) for data in (*one.contextual, one.generated)]
        json.dumps(images)
    return 1000 * (time.process_time() - started) / len(requests)


def in_process(data: bytes, segmenter: InstantSegmenter, config: AppConfig) -> SegmentedDict:
    """Segment one image with the instant models."""
    image = decoding.decode(data, config.limits)
    pairs = [SimpleNamespace(phrase=phrase) for phrase in segmenter.embed(ENTITIES)]
    found = dict(zip(ENTITIES, segmenter.detect(pairs), strict=True))
    return image_document(found, (image.shape[1], image.shape[0]))


@dataclass(frozen=True)
class Measured:
    """One graph under the same requests.

    Attributes:
        load: at the concurrency.
        single: one by one.
        cpu_ms: processor time of a request of `load`, of everything that runs on this machine, the client too.
    """

    load: Load
    single: Load
    cpu_ms: float

    @property
    def images_per_s(self) -> float:
        """Images a second at the concurrency."""
        return IMAGES * self.load.per_second

    @property
    def p50_ms(self) -> float:
        """Median of single requests, in milliseconds."""
        return 1000 * percentile(self.single.latencies_s, 50)


def measure(url: str, part: int) -> Measured:
    """Send requests at the concurrency, then one by one; of each, one of `part`."""
    requests = REQUESTS // part
    wait_until_ready(url)
    send(url, jobs(range(WARM_UP)), CONCURRENCY)
    loaded = jobs(range(1000, 1000 + requests))
    before = machine.busy_s()
    load = send(url, loaded, CONCURRENCY)
    cpu_ms = 1000 * (machine.busy_s() - before) / requests
    return Measured(load, send(url, jobs(range(2000, 2000 + SINGLE_REQUESTS // part)), 1), cpu_ms)


def run(quick: bool = False) -> list[Row]:
    """Measure the bare deployments, then the graph, then the same work without either.

    Args:
        quick: a part of the requests.

    Returns:
        The graph against bare Serve, by its rate, by single requests and by processor time. The last row says how much
        of the graph's processor time is that of bare Serve and of the work itself.
    """
    part = QUICK_PART if quick else 1
    with real_serve() as url:
        serve.run(bare_graph(), name="bare")
        bare = measure(url, part)
        serve.delete("bare")
        # The instant parser's entities are not in the prompts.
        config = AppConfig.model_validate({"entity_filter": {"only_from_prompt": False}})
        serve.run(graph(config), name="orchestration")
        ours = measure(url, part)
    check([*ours.load.documents, *ours.single.documents])
    work_cpu_ms = busy_work_ms(range(2000, 2000 + SINGLE_REQUESTS // part))
    what = f"orchestration, models that answer at once, {machine.cores()} cores"
    return [
        compared(
            f"{what}: rate against bare Serve, which does nothing",
            bare.images_per_s,
            ours.images_per_s,
            unit="images/s",
            higher_is_better=True,
            target=0.7,
            more={f"p{percent}_ms": 1000 * percentile(ours.load.latencies_s, percent) for percent in (50, 95)},
        ),
        compared(
            f"{what}: p50 of single requests against bare Serve",
            bare.p50_ms,
            ours.p50_ms,
            unit="ms",
            target=0.5,
        ),
        compared(
            f"{what}: processor time of a request, bare Serve's and the work's own against the graph's",
            bare.cpu_ms + work_cpu_ms,
            ours.cpu_ms,
            unit="ms",
            more={"bare_ms": bare.cpu_ms, "work_ms": work_cpu_ms},
        ),
    ]
