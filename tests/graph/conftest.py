"""The real graph with the embedded models on a real local Ray, once for the whole run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from serve_app.cli.demo import bundled_request
from serve_app.schemas.requests import SegmentRequest


@dataclass(frozen=True)
class Graph:
    """A running service."""

    url: str
    handle: Any

    def post(self, path: str = "/v1/segment", **options: Any) -> httpx.Response:
        """Send a request and wait for its answer."""
        return httpx.post(self.url + path, timeout=120, **options)


@pytest.fixture(scope="session")
def demo() -> SegmentRequest:
    """The bundled prompt and images."""
    return bundled_request()
