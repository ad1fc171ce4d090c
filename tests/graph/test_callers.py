"""Callers that close the connection, hang up, arrive in large numbers or send odd headers, on a real service."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import random
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urlsplit

import httpx
import pytest

from serve_app.config.schema import AppConfig, ServingConfig
from tests.conftest import png
from tests.graph.conftest import Graph
from tests.graph.fakes import HANGS, load_identity, load_parser, load_segmenter

ADMITTED = 6
JOB = json.dumps({"entities": ["dog"], "generated_image": {"data": base64.b64encode(png()).decode()}}).encode()


@pytest.fixture(scope="module")
def small(ray_serve: str) -> Iterator[Graph]:
    """A service that admits few requests, around fake models."""
    from ray import serve

    from serve_app.app import bind

    config = AppConfig(serving=ServingConfig(max_concurrent_requests=ADMITTED))
    application = bind(config, load_parser=load_parser, load_segmenter=load_segmenter, load_identity=load_identity)
    serve.run(application, name="callers", route_prefix="/callers")
    yield Graph(f"{ray_serve}/callers", serve.get_app_handle("callers"))
    serve.delete("callers")


def ask_with_urllib(url: str, data: bytes, content_type: str) -> tuple[int, str]:
    """Status and error code; urllib always sends `Connection: close`."""
    request = urllib.request.Request(url, data, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error"]["code"]


@pytest.mark.parametrize(
    ("path", "megabytes", "content_type", "expected"),
    [
        ("/v1/segment", 20, "text/plain", (415, "unsupported_media_type")),
        ("/v1/segment", 70, "application/json", (413, "too_large")),
        ("/nope", 20, "application/json", (404, "invalid_request")),
        ("/healthz", 20, "application/json", (405, "invalid_request")),
    ],
    ids=["415", "413", "404", "405"],
)
def test_a_refusal_before_the_body_is_read_reaches_callers_that_close(
    small: Graph, path: str, megabytes: int, content_type: str, expected: tuple[int, str]
) -> None:
    body = b" " * (megabytes * 1_000_000)
    answers = [ask_with_urllib(small.url + path, body, content_type) for _ in range(3)]
    assert answers == [expected] * 3


def test_four_times_the_admitted_requests_at_once_get_answers_of_our_own_and_healthz_is_200(small: Graph) -> None:
    slow = png(HANGS, 8, seed=1)
    post = partial(small.post, data={"entities": '["dog"]'}, files={"generated": slow})
    with ThreadPoolExecutor(4 * ADMITTED) as threads:
        admitted = [threads.submit(post) for _ in range(ADMITTED)]
        time.sleep(1)  # they take 5 s
        refused = [
            threads.submit(ask_with_urllib, f"{small.url}/v1/segment", JOB, "application/json")
            for _ in range(3 * ADMITTED)
        ]
        health = [httpx.get(f"{small.url}/healthz", timeout=10).status_code for _ in range(5)]
        assert [each.result() for each in refused] == [(429, "overloaded")] * (3 * ADMITTED)
        assert health == [200] * 5
        assert [each.result().status_code for each in admitted] == [200] * ADMITTED


async def test_callers_that_hang_up_leave_no_request_behind(small: Graph) -> None:
    address = urlsplit(small.url)
    pick = random.Random(5)

    async def hang_up(index: int) -> None:
        job = {"entities": ["dog", "tree"], "timeout_s": 60}
        job["contextual_images"] = [
            {"data": base64.b64encode(png(9, 9, seed=index * 10 + i)).decode()} for i in range(4)
        ]
        body = json.dumps(job).encode()
        accept = "application/x-ndjson" if index % 2 else "*/*"
        head = (
            f"POST {address.path}/v1/segment HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        sent = head.encode() + body
        writer.write(sent[: pick.choice((len(sent), len(sent), len(sent) // 2))])
        await writer.drain()
        await asyncio.sleep(pick.uniform(0, 0.1))
        writer.close()

    for round_ in range(4):
        await asyncio.gather(*(hang_up(round_ * ADMITTED + index) for index in range(ADMITTED)))
    await asyncio.sleep(1)
    async with httpx.AsyncClient(timeout=30) as http:
        headers = {"Content-Type": "application/json"}
        posts = [http.post(f"{small.url}/v1/segment", content=JOB, headers=headers) for _ in range(ADMITTED)]
        assert [answer.status_code for answer in await asyncio.gather(*posts)] == [200] * ADMITTED


@pytest.mark.parametrize(
    "name", ["X-Request-ID", "x-session-id", "x-request-timeout-seconds", "serve_multiplexed_model_id"]
)
def test_header_bytes_that_are_not_utf8_are_a_400_in_our_shape(small: Graph, name: str) -> None:
    address = urlsplit(small.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=20) as connection:
        request = f"GET {address.path}/readyz HTTP/1.1\r\nHost: x\r\n{name}: caf\xe9\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode("latin-1"))
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        error = json.loads(answer.read())["error"]
    assert (answer.status, error["code"]) == (400, "invalid_request")
    assert error["message"] == f"the value of the header {name.lower()} is not UTF-8"


def test_headers_of_callers_do_not_steer_ray(small: Graph) -> None:
    headers = {"x-request-timeout-seconds": "0.00001", "X-Request-ID": "y" * 4000}
    answer = httpx.get(f"{small.url}/readyz", headers=headers, timeout=20)
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == "y" * 128
    assert httpx.get(f"{small.url}/readyz", headers={"X-Request-ID": ""}, timeout=20).headers["x-request-id"]


def test_an_address_outside_every_application_is_a_404_in_our_shape(small: Graph) -> None:
    # Ray's proxy answers it itself where no application is at "/", and the guard says it in our words.
    address = urlsplit(small.url)
    answer = httpx.get(f"{address.scheme}://{address.netloc}/nowhere/healthz", timeout=20)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "invalid_request")


def test_a_body_that_is_refused_is_not_asked_for(small: Graph) -> None:
    address = urlsplit(small.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=20) as connection:
        request = (
            f"POST {address.path}/v1/segment HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            "Content-Length: 70000000\r\nExpect: 100-continue\r\n\r\n"
        )
        connection.sendall(request.encode())
        assert connection.makefile("rb").readline().startswith(b"HTTP/1.1 413 ")
