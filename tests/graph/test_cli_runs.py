"""`genseg run` with a running service, with a graph that it starts, and interrupted by a signal."""

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
    names = [each.name for each in Path(folder).iterdir()]
    return [name for name in names if not name.startswith("torchinductor")]


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
    entities, *images = objects(document)
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
    with Image.open(tmp_path / "viz" / pictures[1]) as drawn, Image.open(IMAGES / "contextual_0.jpg") as given:
        assert drawn.size == given.size


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


def test_pictures_show_masks_that_the_document_on_standard_output_leaves_out(
    graph: Graph, demo: SegmentRequest, tmp_path: Path
) -> None:
    run = [sys.executable, "-m", "serve_app", "run", "-p", "-", "-g", str(IMAGES / "generated.jpg"), "--url", graph.url]
    documents = {}
    for form in ("rle", "none"):
        more = ["-o", "-", "--mask-format", form, "--viz-dir", form]
        done = subprocess.run(
            [*run, *more],
            cwd=tmp_path,
            input=f"{demo.prompt}\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        documents[form] = json.loads(done.stdout)
    found = [documents[form]["generated_image"]["objects"] for form in ("rle", "none")]
    assert found[0]
    assert all("mask_rle" in item for item in found[0])
    assert [{**item, "mask_rle": None} for item in found[0]] == [{**item, "mask_rle": None} for item in found[1]]
    assert all("mask_rle" not in item for item in found[1])
    assert documents["none"]["prompt"] == demo.prompt
    drawn = [(tmp_path / form / "generated_generated.jpg").read_bytes() for form in ("rle", "none")]
    assert drawn[0] == drawn[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["none", "rle"]


@pytest.mark.timeout(300)
def test_run_on_a_graph_of_its_own_gives_the_same_objects_and_leaves_nothing(
    graph: Graph, demo: SegmentRequest, file_server: str, tmp_path: Path
) -> None:
    """One image is a web address, which the command reads: a private one, too."""
    config = tmp_path / "config.yaml"
    config.write_text("segmentation: {threshold: 0.5}\n")
    more = ["--quiet", "-o", "out.json", "--config", str(config), "--viz-dir", "viz"]
    given = command(demo, *more)
    given[given.index("-g") + 1] = f"http://{file_server}/generated.jpg?X-Signature=s3cret"
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
    assert json.loads(done.stdout)["generated_image"]["path"] == f"http://{file_server}/generated.jpg"
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
        process.stderr.close()
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


@pytest.mark.timeout(300)
def test_of_two_services_started_at_once_one_serves_and_the_other_is_refused(ray_serve: str, tmp_path: Path) -> None:
    config = tmp_path / "twins.yaml"
    config.write_text(SERVICE.replace("signals", "twins"))
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    command = [sys.executable, "-m", "serve_app", "serve", str(config)]
    twins = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said: dict[int, list[str]] = {0: [], 1: []}

    def listen(index: int) -> None:
        stream = twins[index].stderr
        assert stream is not None
        with stream:
            for line in stream:
                said[index].append(line)

    threads = [threading.Thread(target=listen, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    while all(twin.poll() is None for twin in twins):
        time.sleep(0.2)
    refused = next(index for index in range(2) if twins[index].poll() is not None)
    threads[refused].join(30)
    assert twins[refused].returncode == 1
    assert said[refused][-1].startswith("genseg: 'twins' is served on this cluster already, at ")
    served = 1 - refused
    while not any("serving on" in line for line in said[served]) and twins[served].poll() is None:
        time.sleep(0.2)
    assert httpx.get(f"{ray_serve}/twins/readyz", timeout=20).status_code == 200
    page = httpx.get(f"{ray_serve}/twins", timeout=20, follow_redirects=True)
    assert (page.status_code, page.url.path) == (200, "/twins/")
    assert httpx.get(f"{ray_serve}/twins/page/main.js", timeout=20).status_code == 200
    assert any(f"serving on {ray_serve}/twins (docs: {ray_serve}/twins/docs)" in line for line in said[served])
    twins[served].send_signal(signal.SIGINT)
    assert twins[served].wait(120) == 0
    threads[served].join(30)
    assert not any("infinite retries" in line for line in said[served])
