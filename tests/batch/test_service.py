"""Jobs on the real graph with the embedded models give the same results as the handle, and parse each prompt once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import serve_app.embedded
from serve_app.app import bind
from serve_app.cli.cluster import deployment_options, job_graph
from serve_app.cli.console import Progress
from serve_app.cli.options import CommandError
from serve_app.config.files import LoadedConfig, load_file
from serve_app.config.schema import AppConfig
from serve_app.schemas.requests import SegmentRequest
from tests.batch.dataset import by_id, read_lines
from tests.conftest import approximately, png

APP = "batch-test"
IMAGES = Path(serve_app.embedded.__file__).parent / "images"
PROMPTS = ("a dog sitting next to a red sofa", "a yellow balloon over a tree")
TIMEOUT_S = 150


@dataclass(frozen=True)
class Service:
    """A running application whose parser notes every prompt that it reads."""

    handle: Any
    address: str
    prompts_read: Path


@pytest.fixture(scope="module")
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    import ray
    from ray import serve

    from serve_app.models.registry import load_parser
    from serve_app.serving.ingress import Ingress
    from serve_app.serving.parser import ParserDeployment
    from serve_app.serving.segmenter import SegmenterDeployment

    request.getfixturevalue("ray_serve")
    notes = tmp_path_factory.mktemp("service") / "prompts.txt"

    def load(config: Any) -> Any:
        parser: Any = load_parser(config)

        class Noting:
            def generate_each(self, prompts: list[str]) -> Any:
                with notes.open("a") as file:
                    file.writelines(prompt + "\n" for prompt in prompts)
                return parser.generate_each(prompts)

        return Noting()

    deployment: Any = serve.deployment
    config = AppConfig()
    parser = deployment(ParserDeployment).options(max_ongoing_requests=64).bind(config, load)
    segmenter = deployment(SegmenterDeployment).options(max_ongoing_requests=64).bind(config)
    ingress = deployment(serve.ingress()(Ingress)).options(max_ongoing_requests=96)
    serve.run(ingress.bind(config, parser, segmenter), name=APP, route_prefix=None)
    yield Service(serve.get_app_handle(APP), ray.get_runtime_context().gcs_address, notes)
    serve.delete(APP)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Ten rows of two prompts on a few images, one of them broken."""
    story = json.loads((IMAGES / "demo.json").read_text())
    for number in range(3):
        (tmp_path / f"noise{number}.png").write_bytes(png(80, 60, number))
    (tmp_path / "broken.png").write_bytes(png(64, 48)[:200])
    rows = [
        {
            "id": number,
            "prompt": PROMPTS[number % 2],
            "contextual": [f"noise{number % 3}.png"],
            "generated": str(IMAGES / story["generated"]) if number != 4 else "broken.png",
        }
        for number in range(10)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run_batch(manifest: Path, out: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serve_app", "batch", str(manifest), "--output", str(out), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def images_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [*document["contextual_images"], document["generated_image"]]


async def online(service: Service, row: dict[str, Any], folder: Path) -> dict[str, Any]:
    request = SegmentRequest.from_files(
        row["prompt"],
        [(folder / source).read_bytes() for source in row["contextual"]],
        (folder / row["generated"]).read_bytes(),
    )
    document: dict[str, Any] = await service.handle.segment.remote(request)
    document["contextual_images"][0]["path"] = row["contextual"][0]
    document["generated_image"]["path"] = row["generated"]
    return document


@pytest.mark.timeout(2 * TIMEOUT_S)
async def test_batch_on_a_running_service(service: Service, manifest: Path) -> None:
    out = manifest.parent / "out"
    done = run_batch(manifest, out, "--address", service.address, "--app", APP)
    assert done.returncode == 1, done.stderr
    assert "1 row failed (1 invalid_image)" in done.stderr
    (error,) = read_lines(out / "errors")
    assert (error["id"], error["code"], error["field"]) == (4, "invalid_image", "generated_image")
    results = by_id(read_lines(out))
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert set(results) == {row["id"] for row in rows} - {4}
    assert sum(len(document["generated_image"]["objects"]) for document in results.values()) > 0
    assert sorted(service.prompts_read.read_text().splitlines()) == sorted(PROMPTS)
    for number in (0, 1):
        expected = await online(service, rows[number], manifest.parent)
        document = results[number]
        assert images_of(document) == approximately(images_of(expected))
        for key in ("prompt", "entities", "box_format", "coordinate_unit"):
            assert document[key] == expected[key]
        assert document["meta"]["models"] == expected["meta"]["models"]


@pytest.mark.timeout(2 * TIMEOUT_S)
def test_batch_on_replicas_of_its_own_on_a_cluster(service: Service, manifest: Path) -> None:
    from ray import serve

    out = manifest.parent / "out"
    done = run_batch(manifest, out, "--address", service.address, "--app", APP, "--standalone")
    assert done.returncode == 1, done.stderr
    assert len(by_id(read_lines(out))) == 9
    assert [name for name in serve.status().applications if name.startswith(f"{APP}-batch")] == []
    assert APP in serve.status().applications


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no Ray cluster at 127.0.0.1:1: "),
        ("http://127.0.0.1:8265", "Ray address http://127.0.0.1:8265: must be HOST:PORT"),
        ("head", "Ray address head: must be HOST:PORT"),
    ],
    ids=["nobody there", "dashboard", "no port"],
)
def test_job_graph_refuses_an_address_that_cannot_be(address: str, message: str) -> None:
    loaded = LoadedConfig(AppConfig(), None)
    with (
        pytest.raises(CommandError, match=message),
        job_graph(loaded, Progress(quiet=True), address=address, app_name=APP, standalone=False),
    ):
        pytest.fail("joined")


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "configs").glob("*.yaml")), ids=lambda path: path.stem
)
def test_deployment_options_are_those_of_the_serve_config(path: Path) -> None:
    loaded = load_file(path)
    options = deployment_options(loaded.serve)
    assert set(options) == {"Ingress", "ParserDeployment", "SegmenterDeployment"}
    assert all("name" not in each for each in options.values())
    application = bind(loaded.app, options)
    built = {each.name: each for each in (application._bound_deployment, *bound_below(application))}
    for name, given in options.items():
        assert built[name].ray_actor_options.items() >= given["ray_actor_options"].items()
        assert built[name].max_ongoing_requests == given["max_ongoing_requests"]
    assert deployment_options(None) == {}


def bound_below(application: Any) -> list[Any]:
    """The deployments that an application's ingress calls."""
    arguments = application._bound_deployment.init_args
    return [each._bound_deployment for each in arguments if hasattr(each, "_bound_deployment")]
