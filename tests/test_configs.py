"""The files in configs/: each is right, fits its own comments, and keeps what restarts apart from what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from serve_app.app import ACCEPTED_PER_ADMITTED, SPARE_SLOTS
from serve_app.config.files import LoadedConfig, check_file, load_file
from serve_app.config.serve_config import IMPORT_PATH
from serve_app.config.user_config import SETTINGS
from serve_app.serving.autoscaling import WorkPolicy

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))
pytestmark = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


def application(path: Path) -> dict[str, Any]:
    (only,) = yaml.safe_load(path.read_text())["applications"]
    return dict(only)


def deployments(path: Path) -> dict[str, dict[str, Any]]:
    return {deployment["name"]: deployment for deployment in application(path)["deployments"]}


def loaded(path: Path) -> LoadedConfig:
    return load_file(path)


def test_check_file_finds_nothing(path: Path) -> None:
    assert check_file(path) == []


def test_ray_accepts_the_file(path: Path) -> None:
    schema = ServeDeploySchema.model_validate(yaml.safe_load(path.read_text()))
    (app,) = schema.applications
    assert (app.name, app.route_prefix, app.import_path) == ("segmentation", "/", IMPORT_PATH)
    assert schema.http_options.port == 8000


def test_only_files_with_a_token_listen_on_every_network(path: Path) -> None:
    serve = loaded(path).serve
    assert serve is not None
    auth = loaded(path).app.auth
    if serve["http_options"]["host"] != "127.0.0.1":
        assert auth.token_env or auth.tokens


def test_every_deployment_is_configured(path: Path) -> None:
    assert set(deployments(path)) == set(SETTINGS)


def test_what_may_change_at_run_time_is_not_in_args(path: Path) -> None:
    tunable = {section for settings in SETTINGS.values() for section in settings.model_fields}
    assert not tunable.intersection(application(path)["args"])


def test_the_ingress_itself_refuses_before_ray_does(path: Path) -> None:
    admitted = loaded(path).app.serving.max_concurrent_requests
    assert deployments(path)["Ingress"]["max_ongoing_requests"] >= ACCEPTED_PER_ADMITTED * admitted + SPARE_SLOTS


def test_queued_images_of_admitted_requests_fit(path: Path) -> None:
    app = loaded(path).app
    images = app.serving.max_concurrent_requests * app.limits.max_images
    assert deployments(path)["SegmenterDeployment"]["max_queued_requests"] >= images


def test_the_ingress_drains_longer_than_a_request_may_take(path: Path) -> None:
    ingress = deployments(path)["Ingress"]
    if path.stem != "embedded":  # one machine, stopped by hand: nobody waits minutes for it
        assert ingress["graceful_shutdown_timeout_s"] > loaded(path).app.serving.max_timeout_s


def test_deployments_that_scale_can_scale(path: Path) -> None:
    for deployment in deployments(path).values():
        if scaling := deployment.get("autoscaling_config"):
            if policy := scaling.get("policy"):
                assert policy["policy_function"] == f"{WorkPolicy.__module__}:{WorkPolicy.__name__}"
                assert deployment["max_ongoing_requests"] >= 2 * policy["policy_kwargs"].get("calls", 0)
                assert "target_ongoing_requests" not in scaling, "the policy does not read it"
            else:
                assert deployment["max_ongoing_requests"] >= 2 * scaling["target_ongoing_requests"]
            assert scaling["min_replicas"] >= 2


def test_models_on_a_gpu_get_one(path: Path) -> None:
    models = loaded(path).app.models
    for name, device in (
        ("ParserDeployment", models.text_parser.device_map),
        ("SegmenterDeployment", models.segmentation.device),
    ):
        gpus = deployments(path)[name]["ray_actor_options"].get("num_gpus", 0)
        assert (gpus > 0) == device.startswith("cuda")


def test_replicas_that_share_a_gpu_fit_its_memory(path: Path) -> None:
    models = loaded(path).app.models
    shares = [
        (deployments(path)["ParserDeployment"], models.text_parser.gpu_memory_fraction),
        (deployments(path)["SegmenterDeployment"], models.segmentation.gpu_memory_fraction),
    ]
    fractions = [(deployment["ray_actor_options"].get("num_gpus", 0), cap) for deployment, cap in shares]
    sharing = [(gpus, cap) for gpus, cap in fractions if 0 < gpus < 1]
    assert all(cap is not None for _, cap in sharing)
    assert sum(gpus for gpus, _ in sharing) in (0, 1)
    assert sum(cap or 0 for _, cap in sharing) <= 0.95  # the CUDA contexts are in no fraction


def test_a_segmenter_on_a_gpu_comes_with_an_identity_model_and_counts_its_memory(path: Path) -> None:
    models = loaded(path).app.models
    on_gpu = models.segmentation.device.startswith("cuda")
    assert models.identity.model_name == ("facebook/dinov2-base" if on_gpu else "embedded")
    assert not on_gpu or "0.4 GiB" in path.read_text()  # as computed in cluster/SIZING.md


def test_every_retry_of_a_parser_server_ends_before_the_deadline(path: Path) -> None:
    app = loaded(path).app
    if app.models.text_parser.engine == "openai":
        server = app.models.text_parser.openai
        assert server.timeout_s * (1 + server.max_retries) < app.serving.timeout_s


def test_the_file_says_what_restarts_replicas(path: Path) -> None:
    text = path.read_text()
    assert "restarts every replica of every deployment" in text
    assert "user_config   is applied within about a second" in text
