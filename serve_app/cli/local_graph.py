"""Starts a graph on a private Ray for one command, and stops the graph when the command ends.

A graph is the Serve application of ingress, parser and segmenter. This one has no HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from serve_app.cli.console import Progress
from serve_app.cli.deploy import find_checkpoints, for_own_ray, lacking_room, run_application
from serve_app.cli.ray_session import private_ray, resources_of_nodes
from serve_app.config.devices import device_findings
from serve_app.config.findings import place_of
from serve_app.config.schema import AppConfig, AuthConfig
from serve_app.errors import ConfigError, InternalError

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

PATIENCE_S = 86400.0
"""Deadline of a request on such a graph, in seconds. On a CPU a full-size model takes minutes per image."""


@contextmanager
def local_graph(config: AppConfig, progress: Progress) -> Iterator[DeploymentHandle[Any]]:
    """Start a graph, and stop it when the block ends.

    Args:
        config: the graph's configuration.
        progress: gets a line for each step.

    Yields:
        The application's handle.

    Raises:
        GensegError: this machine lacks a device or resources for the replicas, or a model cannot be loaded.
    """
    find_checkpoints(config)
    for finding in device_findings(config, {}):
        raise ConfigError(f"{place_of(finding.path)}: {finding.message}")
    with private_ray(progress):
        from ray import serve

        from serve_app.app import APP_NAME, bind

        if lacking := lacking_room(config, None, resources_of_nodes()):
            raise InternalError(lacking)
        with progress.step(f"loading models ({_names(config)})"):
            run_application(bind(for_own_ray(patient(config))), APP_NAME, route_prefix=None)
        yield serve.get_app_handle(APP_NAME)


def patient(config: AppConfig) -> AppConfig:
    """Return the configuration with long deadlines and without tokens, for a graph with one caller and no HTTP."""
    serving = config.serving.model_copy(update={"max_timeout_s": max(PATIENCE_S, config.serving.max_timeout_s)})
    return config.model_copy(update={"serving": serving, "auth": AuthConfig()})


def _names(config: AppConfig) -> str:
    models = config.models
    names = (models.text_parser.model_name, models.segmentation.model_name, models.identity_name)
    return ", ".join(dict.fromkeys(name for name in names if name is not None))
