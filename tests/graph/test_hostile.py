"""Hostile requests and images against the running service: the documented answer to each, and then a good one."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import httpx
import pytest

from serve_app.schemas.requests import SegmentRequest
from tests.graph.conftest import Graph
from tests.graph.test_graph import as_json
from tests.hostile import corpus, requests

LEAKS = (b"Traceback", b"serve_app", b"site-packages", b'File "')


def check_body(name: str, body: bytes, sent: bytes) -> None:
    """Nothing of the server's inside is in its answer."""
    for word in LEAKS:
        assert word not in body or word in sent, (name, body[:300])


@pytest.mark.timeout(300)
def test_every_hostile_request_gets_its_documented_answer(graph: Graph, demo: SegmentRequest) -> None:
    address = urlsplit(graph.url)
    wrong = []
    for case in requests.cases():
        reply = requests.send(str(address.hostname), int(address.port or 0), case, timeout_s=60)
        check_body(case.name, reply.body, case.body)
        if reply.outcome not in case.expected:
            wrong.append((case.name, reply.outcome, sorted(case.expected, key=str), reply.body[:200]))
    assert not wrong
    assert graph.post(json=as_json(demo)).status_code == 200


@pytest.mark.timeout(300)
async def test_every_hostile_image_gets_its_documented_answer(graph: Graph, demo: SegmentRequest) -> None:
    cases = corpus.cases()
    assert len(cases) >= 200
    slots = asyncio.Semaphore(8)

    async def outcome(http: httpx.AsyncClient, case: corpus.HostileCase) -> tuple[str, str | None, int]:
        async with slots:
            form = {"entities": '["dog"]', "mask_format": "none"}
            answer = await http.post(f"{graph.url}/v1/segment", data=form, files={"generated": ("x", case.data)})
        check_body(case.name, answer.content, b"")
        code = None if answer.status_code == 200 else answer.json()["error"]["code"]
        return case.name, code, answer.status_code

    async with httpx.AsyncClient(timeout=120) as http:
        outcomes = await asyncio.gather(*(outcome(http, case) for case in cases))
    wrong = [
        (found, sorted(map(str, case.allowed)))
        for found, case in zip(outcomes, cases, strict=True)
        if found[1] not in case.allowed
    ]
    assert not wrong
    assert graph.post(json=as_json(demo)).status_code == 200


async def test_uploads_that_stall_take_no_slot_of_the_health_check(graph: Graph, demo: SegmentRequest) -> None:
    address = urlsplit(graph.url)
    head = b"POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{"
    async with AsyncExitStack() as stalled:
        for _ in range(120):
            _, writer = await asyncio.open_connection(address.hostname, address.port)
            stalled.callback(writer.close)
            writer.write(head)
            await writer.drain()
        await asyncio.sleep(2)
        async with httpx.AsyncClient(base_url=graph.url) as http:
            assert (await http.get("/healthz", timeout=10)).status_code == 200
            refused = await http.post("/v1/segment", json=as_json(demo), timeout=10)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
    async with httpx.AsyncClient(base_url=graph.url, timeout=60) as http:
        while (answer := await http.post("/v1/segment", json=as_json(demo))).status_code == 429:
            await asyncio.sleep(0.2)
    assert answer.status_code == 200
