"""What all tests share: one Ray for the whole run, pictures, a free port."""

from __future__ import annotations

import io
import logging
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from tests.graph.conftest import Graph

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# As `genseg serve` and the image in cluster/ set it.
os.environ.setdefault("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "serve_app.serving.http.proxy_guard.middlewares")
os.environ.setdefault("MALLOC_ARENA_MAX", "2")
os.environ.setdefault("RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT", "1000")
# Ray kills a proxy that is not ready within 5 s, which takes longer when all parts of the tests start at once.
os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
os.environ.setdefault("RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S", "60")


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def png(width: int = 64, height: int = 48, seed: int = 0) -> bytes:
    """A PNG file of noise, different for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def metrics_url() -> str:
    """Where the Ray of `ray_serve` shows its metrics to Prometheus."""
    return f"http://127.0.0.1:{free_port()}/metrics"


@pytest.fixture(scope="session")
def ray_serve(metrics_url: str) -> Iterator[str]:
    """A Ray with Serve on this machine; yields the HTTP address."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        pytest.fail("a file whose tests use Ray belongs into GRAPH or COMMANDS of tests/parts.py", pytrace=False)
    import ray
    from ray import serve

    port = free_port()
    ray.init(
        address="local",
        num_cpus=8,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
        _metrics_export_port=int(metrics_url.split(":")[2].split("/")[0]),
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()


@pytest.fixture(scope="session")
def graph(ray_serve: str) -> Iterator[Graph]:
    """The service with the embedded models as `genseg serve` starts it, once for the whole run."""
    from ray import serve

    from serve_app.app import APP_NAME, bind
    from serve_app.config.schema import AppConfig
    from tests.graph.conftest import Graph

    serve.run(bind(AppConfig()), name=APP_NAME, route_prefix="/")
    yield Graph(ray_serve, serve.get_app_handle(APP_NAME))
    serve.delete(APP_NAME)


class NearlyMask:
    """Equals an RLE that differs in less than a ten-thousandth of the picture's pixels."""

    def __init__(self, rle: dict[str, Any]) -> None:
        self._rle = rle

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, dict) or other["size"] != self._rle["size"]:
            return False
        from pycocotools.mask import decode  # here, because tests/gpu runs without it

        return bool(np.mean(decode(other) != decode(self._rle)) < 1e-4)

    def __hash__(self) -> int:
        return hash(self._rle["counts"])

    def __repr__(self) -> str:
        return f"nearly {self._rle}"


def approximately(value: Any) -> Any:
    """What equals a value up to the last bits, which depend on the batch that it was computed in.

    Floats within 1e-5, boxes within a pixel, masks within a ten-thousandth of the picture.
    """
    if isinstance(value, dict):
        if value.keys() == {"size", "counts"}:
            return NearlyMask(value)
        return {
            key: pytest.approx(each, abs=1) if key == "bbox" else approximately(each) for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(approximately(each) for each in value)
    return pytest.approx(value, abs=1e-5) if isinstance(value, float) else value
