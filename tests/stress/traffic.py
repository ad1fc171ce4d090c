"""Every kind of request that a service gets, in turn; most of them cost little, so that there are many of them."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from tests.conftest import png
from tests.stress.service import jobs, post

TIMEOUT_S = 60.0
PROMPTS = ("A dog next to a red sofa", "Two trees and a soccer ball", "A yellow balloon above a blue car")
COLOURS = ("red", "blue", "green", "yellow", "white", "black", "brown", "pink")
THINGS = (
    *("dog", "cat", "car", "tree", "sofa", "chair", "apple", "banana", "bicycle", "boat", "horse", "bird"),
    *("house", "clock", "book", "cup", "hat", "shoe", "flower", "balloon", "guitar", "lamp", "rabbit", "bus"),
)
FORMATS = ("rle", "polygon", "png", "none")
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Kind:
    """One kind of request.

    Attributes:
        send: sends the request of a number to the service at a URL; returns the answer's status, 0 where the client
            did not wait for it.
        expected: the statuses that are right.
    """

    send: Callable[[httpx.AsyncClient, str, int], Awaitable[int]]
    expected: frozenset[int] = frozenset({200})


def body_of(number: int, **more: Any) -> dict[str, Any]:
    """Write the JSON body of a small image that was seen before, in each mask format in turn."""
    data = base64.b64encode(png(64, 64, number % 3)).decode()
    return {
        "entities": ["dog", "car"],
        "generated_image": {"data": data, "name": "small.png"},
        "mask_format": FORMATS[number % len(FORMATS)],
        **more,
    }


async def segment(http: httpx.AsyncClient, url: str, body: object) -> int:
    """Post a JSON body."""
    return (await http.post(f"{url}/v1/segment", json=body)).status_code


async def send_form(http: httpx.AsyncClient, url: str, number: int) -> int:
    """Send one to three of the bundled images, with a prompt or entities."""
    return (await post(http, url, jobs(1, seed=number)[0], TIMEOUT_S))[0]


async def send_json(http: httpx.AsyncClient, url: str, number: int) -> int:
    """Send a small image as JSON."""
    return await segment(http, url, body_of(number))


async def send_overlay(http: httpx.AsyncClient, url: str, number: int) -> int:
    """Ask for an overlay."""
    return await segment(http, url, body_of(number, overlays=True))


async def send_new_image(http: httpx.AsyncClient, url: str, number: int) -> int:
    """Send an image that was never seen, of several sizes."""
    side = (64, 64, 64, 300, 900)[number // len(ROUND) % 5]
    data = base64.b64encode(png(side, side, number)).decode()
    return await segment(http, url, body_of(number, generated_image={"data": data}))


async def send_new_prompt(http: httpx.AsyncClient, url: str, number: int) -> int:
    """Send one of 4,608 prompts."""
    turn = number // len(ROUND)
    colour, first = COLOURS[turn % len(COLOURS)], THINGS[turn // len(COLOURS) % len(THINGS)]
    second = THINGS[turn // len(COLOURS) // len(THINGS) % len(THINGS)]
    prompt = f"A {colour} {first} next to a {second}"
    return (await http.post(f"{url}/v1/entities", json={"prompt": prompt})).status_code


async def send_prompt(http: httpx.AsyncClient, url: str, number: int) -> int:
    """Send a prompt that was seen before."""
    return (await http.post(f"{url}/v1/entities", json={"prompt": PROMPTS[number % len(PROMPTS)]})).status_code


async def send_stream(http: httpx.AsyncClient, url: str, number: int) -> int:
    """Read an answer as a stream."""
    body = body_of(number, entities=None, prompt=PROMPTS[number % len(PROMPTS)])
    headers = {"Accept": "application/x-ndjson"}
    async with http.stream("POST", f"{url}/v1/segment", json=body, headers=headers) as answer:
        lines = [json.loads(line) async for line in answer.aiter_lines()]
    return answer.status_code if lines[-1]["event"] == "result" else 500


async def send_broken_image(http: httpx.AsyncClient, url: str, _: int) -> int:
    """Send a file that starts as a JPEG does."""
    files = [("generated", ("broken.jpg", b"\xff\xd8\xff" + os.urandom(200)))]
    return (await http.post(f"{url}/v1/segment", data={"entities": '["dog"]'}, files=files)).status_code


async def send_wrong_body(http: httpx.AsyncClient, url: str, number: int) -> int:
    """Send no JSON, and JSON of another shape."""
    body = b"{" if number % 2 else json.dumps({"prompt": number, f"field_{number}": 1}).encode()
    return (await http.post(f"{url}/v1/segment", content=body, headers=JSON)).status_code


async def send_long_prompt(http: httpx.AsyncClient, url: str, number: int) -> int:
    """Send a prompt over the limit."""
    return await segment(http, url, body_of(number, entities=None, prompt="dog " * 2000))


async def send_private_url(http: httpx.AsyncClient, url: str, number: int) -> int:
    """Name an image at an address that may not be fetched."""
    return await segment(http, url, body_of(number, generated_image={"url": f"http://127.0.0.1/{number}.png"}))


async def send_short_timeout(http: httpx.AsyncClient, url: str, number: int) -> int:
    """Give no time for the work on a new image."""
    data = base64.b64encode(png(64, 64, number)).decode()
    return await segment(http, url, body_of(number, generated_image={"data": data}, timeout_s=0.01))


async def send_and_leave(_: httpx.AsyncClient, url: str, number: int) -> int:
    """Close the connection inside the body, or before the answer."""
    address = httpx.URL(url)
    body = json.dumps(body_of(number)).encode()
    head = f"POST /v1/segment HTTP/1.1\r\nHost: {address.host}\r\nContent-Type: application/json\r\n"
    writer = (await asyncio.open_connection(address.host, address.port))[1]
    sent = body[: len(body) // 2] if number // len(ROUND) % 2 else body
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + sent)
    await writer.drain()
    await asyncio.sleep(0.01)
    writer.close()
    await writer.wait_closed()
    return 0


async def get_unknown(http: httpx.AsyncClient, url: str, number: int) -> int:
    """Ask for routes that do not exist."""
    return (await http.get(f"{url}/unknown/{number}")).status_code


async def get_health(http: httpx.AsyncClient, url: str, number: int) -> int:
    """Ask as probes do."""
    return (await http.get(f"{url}/{('healthz', 'readyz')[number // len(ROUND) % 2]}")).status_code


KINDS = {
    "form": Kind(send_form),
    "json": Kind(send_json),
    "overlay": Kind(send_overlay),
    "new image": Kind(send_new_image),
    "prompt": Kind(send_prompt),
    "new prompt": Kind(send_new_prompt),
    "stream": Kind(send_stream),
    "broken image": Kind(send_broken_image, frozenset({422})),
    "wrong body": Kind(send_wrong_body, frozenset({400})),
    "long prompt": Kind(send_long_prompt, frozenset({413})),
    "private URL": Kind(send_private_url, frozenset({422})),
    "short timeout": Kind(send_short_timeout, frozenset({200, 504})),
    "client leaves": Kind(send_and_leave, frozenset({0})),
    "unknown route": Kind(get_unknown, frozenset({404})),
    "health": Kind(get_health),
}
ROUND = (
    *("json", "health", "stream", "broken image", "prompt", "client leaves", "json", "unknown route"),
    *("form", "wrong body", "prompt", "private URL", "stream", "new image", "json", "long prompt"),
    *("overlay", "client leaves", "prompt", "health", "json", "short timeout", "broken image", "new prompt"),
)
"""The order in which kinds are sent, again and again."""


@dataclass
class Sent:
    """What was sent so far.

    Attributes:
        answers: counts by "KIND STATUS".
        wrong: those of them that should not be.
    """

    answers: Counter[str]
    wrong: Counter[str]

    def count(self, kind: str, status: int | str) -> None:
        """Count one answer, or the name of the error that came in its place."""
        self.answers[f"{kind} {status}"] += 1
        if status not in KINDS[kind].expected:
            self.wrong[f"{kind} {status}"] += 1


async def load(url: str, sent: Sent, requests: int, seconds: float, concurrency: int) -> None:
    """Keep the service busy until as many requests are sent and as much time is over as asked.

    Args:
        url: of the service.
        sent: continued: its requests are numbered on, and counted.
        requests: the least number.
        seconds: the least time.
        concurrency: requests at the same time.
    """
    first = sent.answers.total()
    ends = time.monotonic() + seconds
    numbers = itertools.count(first)

    async def worker(http: httpx.AsyncClient) -> None:
        while (number := next(numbers)) < first + requests or time.monotonic() < ends:
            kind = ROUND[number % len(ROUND)]
            try:
                sent.count(kind, await KINDS[kind].send(http, url, number))
            except (httpx.HTTPError, OSError) as error:
                sent.count(kind, type(error).__name__)

    # New connections in every round, as clients come and go.
    async with httpx.AsyncClient(timeout=TIMEOUT_S + 10) as http:
        await asyncio.gather(*(worker(http) for _ in range(concurrency)))
