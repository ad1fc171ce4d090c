"""Replicas that fail to start: Serve starts them again as often as the configuration says, on a real Ray."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ray import serve

import serve_app.embedded
from serve_app.app import bind
from serve_app.cli.deploy import hand_over, retry_notice, wait_until_running
from serve_app.config.models import ModelsConfig, SegmentationModel
from serve_app.config.schema import AppConfig, ServingConfig
from serve_app.errors import CheckpointError
from serve_app.schemas.requests import SegmentRequest
from tests.conftest import free_port
from tests.graph.fakes import FakeReplies

CHECKPOINT = Path(serve_app.embedded.__file__).parent / "checkpoints" / "segmenter"
RAYS_OWN_LIMIT = 3
"""Failed starts of one replica after which Ray gives up by itself."""


def with_segmenter(folder: Path, **serving: Any) -> AppConfig:
    segmenter = SegmentationModel(model_name=str(folder), device="cpu")
    return AppConfig(models=ModelsConfig(segmentation=segmenter), serving=ServingConfig(**serving))


def load_parser(_: AppConfig) -> FakeReplies:
    return FakeReplies()


def message(name: str) -> str:
    application = serve.status().applications.get(name)
    deployments = application.deployments if application else {}
    return "\n".join(each.message for each in deployments.values())


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("ray_serve")
def test_a_service_whose_weights_arrive_after_its_replicas_comes_up_by_itself(
    demo: SegmentRequest, tmp_path: Path
) -> None:
    folder = tmp_path / "segmenter"
    said: list[str] = []
    hand_over(bind(with_segmenter(folder), load_parser=load_parser), "late", route_prefix=None)
    try:
        limit = time.monotonic() + 200
        failed = 0
        while failed <= RAYS_OWN_LIMIT:
            assert time.monotonic() < limit
            notice = retry_notice(message("late"))
            failed = 20 - int(notice.split("left: ")[1].split(")")[0]) if notice else 0
            time.sleep(0.2)
        assert notice is not None
        assert notice.endswith(f"model {folder}: there is no such folder")
        shutil.copytree(CHECKPOINT, folder)
        wait_until_running("late", grows=True, say=said.append)
        request = demo.model_copy(update={"entities": ["dog"]})
        document = serve.get_app_handle("late").segment.remote(request).result(timeout_s=120)
        assert document["generated_image"]["objects"]
        assert all("failed to start" in line for line in said)
    finally:
        serve.delete("late")


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("ray_serve")
def test_serve_gives_up_after_as_many_failed_starts_as_the_configuration_says(tmp_path: Path) -> None:
    config = with_segmenter(tmp_path / "none", max_failed_starts=1)
    hand_over(bind(config, load_parser=load_parser), "never", route_prefix=None)
    try:
        with pytest.raises(CheckpointError, match="none: "):
            wait_until_running("never", grows=True)
    finally:
        serve.delete("never")


SERVE = """applications:
  - name: segmentation
    route_prefix: /
    import_path: serve_app.app:build
    args: {models: {segmentation: {model_name: ./model}}}
"""


@pytest.mark.timeout(300)
def test_genseg_serve_on_its_own_ray_gives_up_after_the_second_start(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{")
    (tmp_path / "serve.yaml").write_text(SERVE)
    command = [sys.executable, "-m", "serve_app", "serve", "serve.yaml", "--port", str(free_port())]
    environment = {**os.environ, "RAY_ADDRESS": "local"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 1
    assert "a replica failed to start, and Ray tries again (tries left: 1): model ./model: " in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("genseg: model ./model: ")


def devices(config: AppConfig) -> list[str]:
    """A loader that loads nothing, and says which devices it was asked for."""
    return [config.models.text_parser.device_map, config.models.segmentation.device]


ON_A_RAY_WITH_A_GPU = """
import json, os, ray
from serve_app.cli import ray_session
from serve_app.config.schema import AppConfig
from serve_app.serving.gpus import cluster_gpus, is_autoscaled, on_assigned_device
from tests.graph.test_starts import devices

ray_session.set_environment(CUDA_VISIBLE_DEVICES="0")  # one GPU in Ray's books; no GPU is used
ray_session.start(logs=False)
load = ray.remote(lambda: [on_assigned_device(devices)(AppConfig()), os.environ.get("HF_TOKEN")])
lent = {share: ray.get(load.options(num_cpus=0, num_gpus=share).remote()) for share in (0, 0.5)}
print(json.dumps({"gpus": cluster_gpus(), "autoscaled": is_autoscaled(), "lent": lent}))
ray_session.leave()
"""


@pytest.mark.timeout(180)
def test_a_replica_with_auto_leaves_a_gpu_alone_that_ray_has_not_lent_it() -> None:
    environment = {**os.environ, "HF_TOKEN": "hf_secret", "RAY_OVERRIDE_RESOURCES": '{"GPU": 1}'}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-c", ON_A_RAY_WITH_A_GPU]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "gpus": 1.0,
        "autoscaled": False,
        # `auto` stays `auto` with a lent GPU: the loader then takes it. A Ray of one's own passes the hub's token on.
        "lent": {"0": [["cpu", "cpu"], "hf_secret"], "0.5": [["auto", "auto"], "hf_secret"]},
    }
