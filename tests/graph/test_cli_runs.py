"""`genseg` doing the job: on a running service, on a graph of its own, and interrupted."""

from __future__ import annotations

import functools
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import ray
from PIL import Image, ImageChops
from ray import serve

from serve_app.schemas.documents import ResultDocument
from serve_app.schemas.requests import SegmentRequest
from tests.conftest import approximately
from tests.graph.conftest import Graph
from tests.graph.test_graph import as_json, objects

IMAGES = Path("serve_app/embedded/images").resolve()


def command(demo: SegmentRequest, *more: str) -> list[str]:
    contextual = [str(IMAGES / str(image.name)) for image in demo.contextual_images]
    generated = str(IMAGES / str(demo.generated_image.name if demo.generated_image else ""))
    run = [sys.executable, "-m", "serve_app", "run", "-p", demo.prompt, "-c", *contextual, "-g", generated]
    return [*run, *more]


def leftovers(folder: str) -> list[str]:
    """What a command left behind, besides PyTorch's own cache."""
    return [name for name in os.listdir(folder) if not name.startswith("torchinductor")]


@pytest.fixture
def file_server() -> Iterator[str]:
    """The bundled images over HTTP: `host:port`."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(IMAGES))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def plain(document: dict[str, object]) -> object:
    """Objects without the paths, which the shell gives in full."""
    entities, *images = objects(document)  # type: ignore[arg-type]
    return [entities, *((found, presence) for _, found, presence in images)]


def test_run_by_url_gives_the_services_objects(graph: Graph, demo: SegmentRequest, tmp_path: Path) -> None:
    more = ["--url", graph.url, "--save-viz", "--viz-dir", "viz", "--compare"]
    done = subprocess.run(command(demo, *more), cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "segmentation_output.json").read_text())
    ResultDocument.model_validate(document)
    assert plain(document) == approximately(plain(graph.post(json=as_json(demo)).json()))
    assert "[3/3]" in done.stderr
    pictures = sorted(path.name for path in (tmp_path / "viz").iterdir())
    assert pictures == [
        "comparison.jpg",
        "contextual_0_contextual_0.jpg",
        "contextual_1_contextual_1.jpg",
        "generated_generated.jpg",
    ]
    assert Image.open(tmp_path / "viz" / pictures[1]).size == Image.open(IMAGES / "contextual_0.jpg").size


def test_run_by_url_sends_its_options(graph: Graph, tmp_path: Path) -> None:
    flags = ["--entities", "dog", "red sofa", "--thresholds", "dog=1.0", "--mask-format", "polygon", "--overlays"]
    more = ["--threshold", "0.4", "--timeout", "100", "--quiet", "--save-viz", "--viz-dir", "viz", "--url", graph.url]
    run = [sys.executable, "-m", "serve_app", "run", "-g", str(IMAGES / "generated.jpg"), *flags, *more]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    image = document["generated_image"]
    assert (document["prompt"], document["entities"]) == ("", ["dog", "red sofa"])
    assert document["meta"]["threshold"] == 0.4
    assert {item["label"] for item in image["objects"]} == {"red sofa"}  # no dog has a score above 1
    assert all("mask_polygons" in item for item in image["objects"])
    assert image["overlay"].startswith("data:image/jpeg;base64,")
    assert (tmp_path / "viz" / "generated_generated.jpg").is_file()


@pytest.mark.timeout(300)
def test_run_on_a_graph_of_its_own_gives_the_same_objects_and_leaves_nothing(
    graph: Graph, demo: SegmentRequest, file_server: str, tmp_path: Path
) -> None:
    """One image is a URL, whose picture only the graph can draw."""
    config = tmp_path / "config.yaml"
    config.write_text(f"fetch: {{allowed_hosts: ['{file_server}']}}\n")
    more = ["--quiet", "-o", "out.json", "--config", str(config), "--viz-dir", "viz"]
    given = command(demo, *more)
    given[given.index("-g") + 1] = f"http://{file_server}/generated.jpg"
    with tempfile.TemporaryDirectory(prefix="t") as scratch:
        environment = {**os.environ, "TMPDIR": scratch}
        done = subprocess.run(
            given,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
        assert leftovers(scratch) == []
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert plain(json.loads(done.stdout)) == approximately(plain(graph.post(json=as_json(demo)).json()))
    assert "overlay" not in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "out.json", "viz"]
    assert len(list((tmp_path / "viz").iterdir())) == 3
    drawn, given_image = Image.open(tmp_path / "viz" / "generated_generated.jpg"), Image.open(IMAGES / "generated.jpg")
    assert drawn.size == given_image.size
    assert ImageChops.difference(drawn, given_image.convert("RGB")).getbbox() is not None


@pytest.mark.timeout(300)
def test_an_interrupted_run_says_so_and_leaves_nothing(demo: SegmentRequest, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="t") as scratch:
        environment = {**os.environ, "TMPDIR": scratch}
        process = subprocess.Popen(command(demo), cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        assert any("loading models" in line for line in process.stderr)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(120) == 1
        assert leftovers(scratch) == []
    assert rest.strip().splitlines()[-1] == "genseg: interrupted"
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(300)
def test_a_model_that_cannot_be_loaded_is_named_at_start(demo: SegmentRequest, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{")
    more = ["--seg-model", "./model"]
    done = subprocess.run(command(demo, *more), cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("genseg: model ./model: ")
    assert "Traceback" not in done.stderr


def test_serve_leaves_an_application_of_others_alone(graph: Graph) -> None:
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    command = [sys.executable, "-m", "serve_app", "serve"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    said = f"genseg: 'segmentation' is served on this cluster already, at {graph.url}; `serve deploy` updates it"
    assert done.stderr.strip().splitlines()[-1] == said
    assert httpx.get(f"{graph.url}/readyz").status_code == 200


SERVICE = """\
applications:
  - name: signals
    route_prefix: /signals
    import_path: serve_app.app:build
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_serve_finishes_its_requests_at_a_signal_also_in_the_background_of_a_script(
    ray_serve: str, tmp_path: Path, number: signal.Signals
) -> None:
    config = tmp_path / "service.yaml"
    config.write_text(SERVICE)
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    # A shell starts what a script puts into the background with SIGINT ignored.
    script = f"{sys.executable} -m serve_app serve {config} & echo pid $! >&2; wait $!"
    with subprocess.Popen(["sh", "-c", script], env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        pid = int(next(line for line in process.stderr if line.startswith("pid")).split()[1])
        assert any("serving on" in line for line in process.stderr)
        # 49 megapixels each: seconds of work.
        sheet = io.BytesIO()
        Image.new("RGB", (7000, 7000), "white").save(sheet, "PNG")
        files = [("contextual", (f"{index}.png", sheet.getvalue() + bytes([index]))) for index in range(6)]
        with httpx.stream(
            "POST",
            f"{ray_serve}/signals/v1/segment",
            data={"entities": '["dog"]'},
            files=files,
            headers={"Accept": "application/x-ndjson"},
            timeout=120,
        ) as response:
            lines = response.iter_lines()
            assert json.loads(next(lines))["event"] == "entities"
            os.kill(pid, number)
            while (late := httpx.get(f"{ray_serve}/signals/readyz", timeout=20)).status_code == 200:
                time.sleep(0.05)
            refused = httpx.post(f"{ray_serve}/signals/v1/segment", json={}, timeout=20)
            assert (late.status_code, refused.status_code) == (503, 503)
            assert refused.json()["error"]["message"] == "the service is stopping"
            assert httpx.get(f"{ray_serve}/signals/healthz", timeout=20).status_code == 200
            events = [json.loads(line) for line in lines]
        rest = process.stderr.read()
        assert process.wait(120) == 0
    assert [event["event"] for event in events] == ["image"] * 6 + ["result"]
    assert "stopping: requests under way are finished first" in rest
    assert rest.strip().splitlines()[-1] == "stopped"
    assert "SIGTERM received" not in rest
    assert "Traceback" not in rest
    assert "signals" not in serve.status().applications
