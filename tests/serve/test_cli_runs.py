"""`genseg` doing the job: on a running service, on a graph of its own, and interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from PIL import Image

from serve_app.schemas import ResultDocument, SegmentRequest
from tests.conftest import approximately
from tests.serve.conftest import Graph
from tests.serve.test_graph import as_json, objects

IMAGES = Path("serve_app/embedded/images").resolve()


def command(demo: SegmentRequest, *more: str) -> list[str]:
    contextual = [str(IMAGES / str(image.name)) for image in demo.contextual_images]
    generated = str(IMAGES / str(demo.generated_image.name if demo.generated_image else ""))
    run = [sys.executable, "-m", "serve_app", "run", "-p", demo.prompt, "-c", *contextual, "-g", generated]
    return [*run, *more]


def leftovers(folder: str) -> list[str]:
    """What a command left behind, besides PyTorch's own cache."""
    return [name for name in os.listdir(folder) if not name.startswith("torchinductor")]


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


@pytest.mark.timeout(300)
def test_run_on_a_graph_of_its_own_gives_the_same_objects_and_leaves_nothing(
    graph: Graph, demo: SegmentRequest, tmp_path: Path
) -> None:
    more = ["--quiet", "-o", "out.json"]
    with tempfile.TemporaryDirectory(prefix="t") as scratch:
        environment = {**os.environ, "TMPDIR": scratch}
        done = subprocess.run(
            command(demo, *more),
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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json"]


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
def test_a_model_that_is_not_there_is_named_at_start(demo: SegmentRequest, tmp_path: Path) -> None:
    more = ["--seg-model", str(tmp_path / "nothing")]
    done = subprocess.run(command(demo, *more), cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == f"genseg: model {tmp_path / 'nothing'}: there is no such folder"
    assert "Traceback" not in done.stderr
