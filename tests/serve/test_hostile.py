"""Hostile requests and images against the running service: the documented answer to each, and then a good one."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import httpx
import pytest

from serve_app.schemas import SegmentRequest
from tests.hostile import corpus, requests
from tests.serve.conftest import Graph
from tests.serve.test_graph import as_json

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
