"""The whole service over HTTP against the plain server, the same embedded models and requests, in one run.

Three images and four entities a request, eight requests at a time. The two servers take turns, round by round, each
with one torch thread per core of the machine: ours one in the parser's process and one in the segmenter's, theirs
all in its only process. First every request is new to both (our phrase cache is off, so that not even a word is
remembered); then ours gets the same pictures again.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from serve_app.config.schema import AppConfig, CacheConfig
from tests.benchmarks import machine, pictures
from tests.benchmarks.rows import Row, compared
from tests.benchmarks.serving import Job, Load, free_port, percentile, real_serve, send, wait_until_ready

CONCURRENCY = 8
ROUNDS, REQUESTS = 2, 24
QUICK_ROUNDS, QUICK_REQUESTS = 1, 8
WARM_UP = 2
OTHER_PROMPTS = 1_000_000
"""Added to a request's seed for a new prompt on the same pictures."""

LEAST_SAME = 0.95
"""Part of the requests that both must answer with the same entities and the same number of each; the rest is scores
at the threshold and words that greedy decoding ties on."""


def jobs(seeds: Sequence[int], prompt_offset: int = 0) -> list[Job]:
    """Make requests; with an offset, the same pictures with other prompts."""
    made = [pictures.request(seed, seed + prompt_offset) for seed in seeds]
    return [Job.multipart(one.prompt, one.contextual, one.generated) for one in made]


@contextmanager
def plain_server(threads: int) -> Iterator[str]:
    """Run the plain server in a process of its own; yields its address."""
    port = free_port()
    command = [sys.executable, "-m", "tests.benchmarks.reference_server", "--port", str(port)]
    process = subprocess.Popen([*command, "--threads", str(threads)])
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url)
        yield url
    finally:
        process.kill()
        process.wait()


@contextmanager
def our_server() -> Iterator[str]:
    """Run the graph on a Ray of its own; yields its address."""
    from ray import serve

    from serve_app.app import APP_NAME, bind

    with real_serve() as url:
        serve.run(bind(AppConfig(cache=CacheConfig(phrase_bytes=0))), name=APP_NAME)
        wait_until_ready(url)
        yield url


def joined(loads: Sequence[Load]) -> Load:
    """Put the rounds of one server together."""
    return Load(
        sum(load.seconds for load in loads),
        [latency for load in loads for latency in load.latencies_s],
        [document for load in loads for document in load.documents],
    )


def summary(document: dict[str, Any]) -> list[Counter[str]]:
    """What was found where: the entities, then labels and their number for each image."""
    images = [*document["contextual_images"], document["generated_image"]]
    return [Counter(document["entities"]), *(Counter(one["label"] for one in image["objects"]) for image in images)]


def same_answers(ours: Load, theirs: Load) -> float:
    """Part of the requests that both servers answered alike."""
    pairs = zip(ours.documents, theirs.documents, strict=True)
    return sum(summary(one) == summary(other) for one, other in pairs) / len(ours.documents)


def content(load: Load) -> dict[str, float]:
    """How much there was to do: entities of a request and objects of an image, on average."""
    images = [image for document in load.documents for image in summary(document)[1:]]
    entities = sum(len(document["entities"]) for document in load.documents) / len(load.documents)
    return {"entities_per_request": entities, "objects_per_image": sum(image.total() for image in images) / len(images)}


def measure(ours_url: str, plain_url: str, rounds: int, requests: int) -> tuple[Load, Load, Load, Load]:
    """Run all rounds of so many requests.

    Returns:
        The plain server, ours, ours with the same pictures and other prompts, ours with the same requests again.
    """
    warm_up = jobs(range(10_000, 10_000 + WARM_UP))
    for url in (plain_url, ours_url):
        send(url, warm_up, 1)
    plain, first, other_prompts, again = [], [], [], []
    for start in range(0, rounds * requests, requests):
        seeds = range(start, start + requests)
        fresh = jobs(seeds)
        plain.append(send(plain_url, fresh, CONCURRENCY))
        first.append(send(ours_url, fresh, CONCURRENCY))
        other_prompts.append(send(ours_url, jobs(seeds, OTHER_PROMPTS), CONCURRENCY))
        again.append(send(ours_url, fresh, CONCURRENCY))
    return joined(plain), joined(first), joined(other_prompts), joined(again)


def run(quick: bool = False) -> list[Row]:
    """Measure everything.

    Args:
        quick: one round of few requests.

    Returns:
        Requests a second and the latency percentiles against the plain server, then against our own first time.

    Raises:
        SystemExit: the two servers answer differently.
    """
    with plain_server(machine.cores()) as plain_url, our_server() as ours_url:
        size = (QUICK_ROUNDS, QUICK_REQUESTS) if quick else (ROUNDS, REQUESTS)
        plain, first, other_prompts, again = measure(ours_url, plain_url, *size)
    same = same_answers(first, plain)
    if same < LEAST_SAME:
        raise SystemExit(f"only {same:.0%} of the requests were answered alike: nothing is compared")
    p50, p95 = ([percentile(load.latencies_s, percent) for load in (plain, first)] for percent in (50, 95))
    what = f"HTTP, 3 images x 4 entities, {CONCURRENCY} at a time"
    return [
        rates(
            f"{what}: rate against the plain server",
            plain,
            first,
            target=3.0,
            also_met=p95[1] < p95[0],
            more={"same_answers": same, **content(first)},
        ),
        compared(f"{what}: p50 against the plain server", *p50),
        compared(f"{what}: p95 against the plain server", *p95, target=1.0),
        rates(f"{what}: the same requests again", first, again, target=2.0),
        rates(f"{what}: the same pictures, other prompts", first, other_prompts),
    ]


def rates(what: str, reference: Load, ours: Load, **options: Any) -> Row:
    """Compare two loads by requests a second."""
    return compared(what, reference.per_second, ours.per_second, unit="requests/s", higher_is_better=True, **options)
