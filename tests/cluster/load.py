"""Sends requests with known answers over HTTP without a pause, and judges each answer."""

from __future__ import annotations

import asyncio
import io
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from PIL import Image

TIMEOUT_S = 60.0
LARGE_EVERY = 6
"""One request in so many brings an image that goes to the object store, and wants an answer that comes from it."""


@dataclass(frozen=True)
class Job:
    """One request and what its answer must hold."""

    form: dict[str, str]
    files: list[tuple[str, tuple[str, bytes]]]
    scores: tuple[float, ...]
    side: int
    labels = ("dog", "sofa")


def job(index: int) -> Job:
    """Make the request of a number; no two have the same images or the same prompt."""
    large = index % LARGE_EVERY == 0
    side = 400 if large else 16 + index % 48
    reds = (30 + index % 65, 30 + index * 7 % 65)
    files = [("contextual", (f"{place}.png", picture(side, red, index * 2 + place))) for place, red in enumerate(reds)]
    form = {"prompt": f"a DOG on a SOFA number {index}"} if index % 2 else {"entities": '["dog", "sofa"]'}
    return Job({**form, "overlays": "true"} if large else form, files, tuple(red / 100 for red in reds), side)


def picture(side: int, red: int, seed: int) -> bytes:
    """A square PNG of noise (above 200 kB for a side of 400) whose first pixel tells the fake which score to give."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    pixels[0, 0] = (red, 0, 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


@dataclass(frozen=True)
class Answer:
    """What became of one request.

    Attributes:
        sent: when, on time.monotonic's clock, in seconds.
        seconds: until the answer.
        status: HTTP status; 0 where no answer came.
        error: the answer's text, or the exception's name; None where there is none.
        wrong: what is not as it must be; None where nothing is.
        threshold: that the document names; None where there is no document.
        presences: of all images and entities: which models answered.
        reported: the segmentation model's name in the document.
    """

    sent: float
    seconds: float
    status: int
    error: str | None = None
    wrong: str | None = None
    threshold: float | None = None
    presences: frozenset[float] = frozenset()
    reported: str | None = None


def fault(wanted: Job, document: dict[str, Any]) -> str | None:
    """Hold a result document against its request; returns what is wrong first, None where nothing is."""
    if document["entities"] != list(wanted.labels):
        return f"entities {document['entities']}"
    if len(document["contextual_images"]) != len(wanted.scores):
        return f"{len(document['contextual_images'])} images"
    for place, (image, score) in enumerate(zip(document["contextual_images"], wanted.scores, strict=True)):
        if image["error"] is not None:
            return f"image {place}: {image['error']['code']}: {image['error']['message']}"
        labels = wanted.labels if score > document["meta"]["threshold"] else ()
        expected = [(f"{label}_0", [0, 0, wanted.side, wanted.side], score) for label in labels]
        found = [(each["object_id"], each["bbox"], round(each["score"], 2)) for each in image["objects"]]
        if found != expected:
            return f"image {place}: {found}, not {expected}"
        if ("overlay" in image) != ("overlays" in wanted.form):
            return f"image {place}: overlay"
    return None


class Load:
    """Keeps `concurrency` requests under way in a separate thread, from `__enter__` to `__exit__`.

    Args:
        url: of the service.
        concurrency: requests at once.
        headers: of every request.
        pause_s: before each request, in seconds.

    Attributes:
        answers: of every request, in the order in which they came.
    """

    def __init__(self, url: str, concurrency: int, headers: dict[str, str], pause_s: float = 0.0) -> None:
        self.answers: list[Answer] = []
        self._url, self._concurrency, self._headers, self._pause_s = url, concurrency, headers, pause_s
        self._stop = threading.Event()
        self._jobs = map(job, itertools.count(1))
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Send nothing more and wait for the answers to what is under way."""
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=self._concurrency)
        async with httpx.AsyncClient(headers=self._headers, limits=limits, trust_env=False) as http:
            await asyncio.gather(*(self._work(http) for _ in range(self._concurrency)))

    async def _work(self, http: httpx.AsyncClient) -> None:
        while not self._stop.is_set():
            await asyncio.sleep(self._pause_s)
            self.answers.append(await ask(http, self._url, next(self._jobs)))

    def until(self, condition: Callable[[], bool], timeout_s: float) -> float:
        """Wait, with the load going on; returns the seconds it took, infinite where it never came true."""
        started = time.monotonic()
        while time.monotonic() - started < timeout_s:
            if condition():
                return round(time.monotonic() - started, 1)
            time.sleep(0.25)
        return float("inf")


async def ask(http: httpx.AsyncClient, url: str, wanted: Job) -> Answer:
    """Send one request and judge its answer."""
    sent = time.monotonic()
    data = {**wanted.form, "timeout_s": str(TIMEOUT_S)}
    try:
        # A little more than the service itself allows: no answer until then is a request that hangs.
        reply = await http.post(f"{url}/v1/segment", data=data, files=wanted.files, timeout=TIMEOUT_S + 15)
    except httpx.TimeoutException:
        return Answer(sent, time.monotonic() - sent, 0, "hung")
    except httpx.HTTPError as error:
        return Answer(sent, time.monotonic() - sent, 0, type(error).__name__)
    seconds = time.monotonic() - sent
    if reply.status_code != 200:
        return Answer(sent, seconds, reply.status_code, reply.text[:200])
    body = reply.json()
    return Answer(
        sent,
        seconds,
        200,
        wrong=fault(wanted, body),
        threshold=body["meta"]["threshold"],
        presences=frozenset(each for image in body["contextual_images"] for each in image["presence"].values()),
        reported=body["meta"]["models"]["segmentation"],
    )


def tally(answers: list[Answer]) -> dict[str, Any]:
    """Count: requests, those without a right answer, by kind, and how long answers took."""
    seconds = sorted(answer.seconds for answer in answers) or [0.0]
    return {
        "requests": len(answers),
        "failed": sum(answer.status not in (0, 200) for answer in answers),
        "lost": sum(answer.status == 0 and answer.error != "hung" for answer in answers),
        "hung": sum(answer.error == "hung" for answer in answers),
        "wrong": sum(answer.wrong is not None for answer in answers),
        "kinds": dict(Counter(f"{each.status} {each.error or each.wrong}" for each in answers if is_bad(each))),
        "p50_s": round(seconds[len(seconds) // 2], 2),
        "max_s": round(seconds[-1], 2),
    }


def is_bad(answer: Answer) -> bool:
    """Whether a request did not get the right answer."""
    return answer.status != 200 or answer.wrong is not None
