"""Replicas die, devices and queues are full, models reply nonsense; after each fault a good request succeeds."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serve_app.config.schema import AppConfig, ServingConfig
from tests.conftest import png
from tests.graph.conftest import Graph
from tests.graph.fakes import DIES, FULL, HANGS, NONSENSE, REASON, load_identity, load_parser, load_segmenter

NAME = "faults"


def application(config: AppConfig, options: dict[str, dict[str, Any]] | None = None) -> Any:
    """The graph around fake models."""
    from serve_app.app import bind

    return bind(config, options, load_parser=load_parser, load_segmenter=load_segmenter, load_identity=load_identity)


@pytest.fixture(scope="module")
def faulty(ray_serve: str) -> Iterator[Graph]:
    from ray import serve

    config = AppConfig(serving=ServingConfig(max_concurrent_requests=12, max_retries=2))
    options = {"SegmenterDeployment": {"num_replicas": 2}, "ParserDeployment": {"num_replicas": 2}}
    serve.run(application(config, options), name=NAME, route_prefix="/faults")
    yield Graph(f"{ray_serve}/faults", serve.get_app_handle(NAME))
    serve.delete(NAME)


def post(graph: Graph, *widths: int, **fields: str) -> httpx.Response:
    files = [("contextual", (f"{width}.png", png(width, 4, seed=width))) for width in widths]
    return graph.post(data=fields or {"entities": '["dog"]'}, files=files)


def wait_until_good(graph: Graph) -> None:
    """A good request is answered again, at the latest when dead replicas are replaced."""
    deadline = time.monotonic() + 60
    while post(graph, 10).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_an_image_that_kills_replicas_gets_an_error_and_the_service_lives(faulty: Graph) -> None:
    response = post(faulty, DIES)
    assert response.status_code == 500
    assert response.json()["error"] == {
        "code": "internal",
        "message": "contextual_images[0]: a replica of the segmenter died in every attempt (attempts: 3)",
        "field": "contextual_images[0]",
    }
    wait_until_good(faulty)


def test_a_prompt_that_kills_replicas_gets_an_error_and_the_service_lives(faulty: Graph) -> None:
    response = post(faulty, 10, prompt="DIES")
    assert response.status_code == 500
    assert "a replica of the parser died" in response.json()["error"]["message"]
    assert post(faulty, 10, prompt="A DOG").json()["entities"] == ["dog"]


def test_a_replica_killed_under_a_request_does_not_fail_it(faulty: Graph) -> None:
    wait_until_good(faulty)
    answers: list[httpx.Response] = []
    # Two images that take 5 s, on whichever replicas: one of these is killed in the middle.
    worker = threading.Thread(target=lambda: answers.append(post(faulty, HANGS, 10)))
    worker.start()
    time.sleep(1.5)
    import ray

    prefix = f"SERVE_REPLICA::{NAME}#SegmenterDeployment#"
    for entry in ray.util.list_named_actors(all_namespaces=True):
        if entry["name"].startswith(prefix):
            ray.kill(ray.get_actor(entry["name"], namespace="serve"))
    worker.join(90)
    assert [answer.status_code for answer in answers] == [200]
    assert [len(image["objects"]) for image in answers[0].json()["contextual_images"]] == [1, 1]


def test_a_full_device_and_nonsense_are_errors_of_their_image(faulty: Graph) -> None:
    wait_until_good(faulty)
    response = post(faulty, FULL, 10)
    assert response.status_code == 200
    failed, good = response.json()["contextual_images"]
    assert (failed["objects"], failed["error"]["code"]) == (None, "internal")
    assert len(good["objects"]) == 1
    assert post(faulty, NONSENSE).status_code == 500
    wait_until_good(faulty)


def test_a_reply_that_is_no_list_is_never_an_empty_result(faulty: Graph) -> None:
    response = post(faulty, 10, prompt="NONSENSE")
    assert (response.status_code, response.json()["error"]["code"]) == (502, "invalid_model_reply")


def test_what_the_segmenter_cannot_read_is_dropped_from_a_prompt_and_refused_from_the_caller(faulty: Graph) -> None:
    wait_until_good(faulty)
    dropped = [{"entity": "unreadable", "reason": REASON}]
    read = faulty.post("/v1/entities", json={"prompt": "A DOG and UNREADABLE"}).json()
    assert read == {"entities": ["dog"], "dropped": dropped}
    for widths in ((10,), (10, 11)):
        answer = post(faulty, *widths, prompt="A DOG and UNREADABLE")
        assert answer.status_code == 200
        assert (answer.json()["entities"], answer.json()["meta"]["dropped"]) == (["dog"], dropped)
        assert [[*image["presence"]] for image in answer.json()["contextual_images"]] == [["dog"]] * len(widths)
    stream = {"Accept": "application/x-ndjson"}
    files = [("contextual", ("a.png", png(10, 4)))]
    lines = faulty.post(data={"prompt": "A DOG and UNREADABLE"}, files=files, headers=stream).text.splitlines()
    assert json.loads(lines[0]) == {"event": "entities", "entities": ["dog"], "dropped": dropped}
    assert json.loads(lines[-1])["event"] == "result"
    for headers in ({}, stream):
        data = {"entities": '["dog", "an unreadable thing"]'}
        refused = faulty.post(data=data, files=files, headers=headers)
        assert (refused.status_code, refused.json()["error"]) == (
            400,
            {"code": "invalid_request", "message": f"entities[1]: {REASON}", "field": "entities[1]"},
        )


def test_a_deadline_is_kept_while_the_model_is_busy(faulty: Graph) -> None:
    wait_until_good(faulty)
    started = time.monotonic()
    # A picture that no other test sends: its features must not be in the cache.
    data = {"entities": '["dog"]', "timeout_s": "0.5"}
    response = faulty.post(data=data, files={"generated": ("h.png", png(HANGS, 9))})
    assert (response.status_code, response.json()["error"]["code"]) == (504, "timeout")
    assert time.monotonic() - started < 4.5  # the model takes 5 s
    # Ray's own header must not switch the deadline off.
    headers = {"x-request-timeout-seconds": "0"}
    again = faulty.post(data=data, files={"generated": ("h.png", png(HANGS, 5))}, headers=headers)
    assert again.status_code == 504


async def test_more_requests_than_admitted_are_refused_and_admitted_ones_finish(faulty: Graph) -> None:
    await asyncio.to_thread(wait_until_good, faulty)
    async with httpx.AsyncClient(timeout=90) as http:

        async def one(index: int) -> httpx.Response:
            files = {"generated": ("x.png", png(HANGS, 6 + index % 2))}
            return await http.post(f"{faulty.url}/v1/segment", data={"entities": '["dog"]'}, files=files)

        answers = await asyncio.gather(*(one(index) for index in range(30)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) == 12
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "overloaded"
    assert int(refused.headers["retry-after"]) >= 1
