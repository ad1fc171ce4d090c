"""What Prometheus reads of a service that has worked."""

from __future__ import annotations

import time

import httpx
import pytest

from serve_app.schemas.requests import SegmentRequest
from tests.graph.conftest import Graph
from tests.graph.test_graph import as_json

EXPECTED = [
    'ray_genseg_requests_total{',
    'status="200"',
    'status="400"',
    "ray_genseg_request_seconds_bucket{",
    'ray_genseg_stage_seconds_bucket{',
    'stage="parse"',
    'stage="decode"',
    'stage="encode"',
    'stage="detect"',
    'stage="masks"',
    "ray_genseg_images_total{",
    "ray_genseg_objects_total{",
    'axis="images"',
    'axis="pairs"',
    'axis="prompts"',
    "ray_genseg_cache_hits_total{",
    "ray_genseg_cache_misses_total{",
    "ray_genseg_cache_bytes{",
    'cache="vision"',
    'cache="phrase"',
    'cache="prompt"',
    "ray_genseg_queue_length{",
    "ray_genseg_busy_seconds{",
    'of="device"',
    'of="full passes"',
    'of="threads"',
    'queue="requests"',
    'queue="pairs"',
    'queue="prompts"',
    'code="invalid_request"',
]  # fmt: skip


@pytest.mark.timeout(120)
def test_every_metric_is_exported(graph: Graph, demo: SegmentRequest, metrics_url: str) -> None:
    for _ in range(2):
        assert graph.post(json=as_json(demo)).status_code == 200
    assert graph.post(json={}).status_code == 400
    missing = EXPECTED
    deadline = time.monotonic() + 60
    while missing and time.monotonic() < deadline:
        time.sleep(1)
        text = httpx.get(metrics_url).text
        missing = [name for name in EXPECTED if name not in text]
    assert missing == []
