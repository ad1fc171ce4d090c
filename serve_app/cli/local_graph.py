"""The graph on this machine, for as long as a command needs it: a Ray of its own, started and stopped again.

Never joins a Ray cluster that is running already: its own is private, and goes with it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from serve_app.cli.console import Progress
from serve_app.cli.signals import finish_undisturbed, keeping_signals
from serve_app.config.schema import AppConfig, AuthConfig
from serve_app.errors import CheckpointError, GensegError, InternalError

PATIENCE_S = 86400.0
"""Deadline of a request on a graph of one's own: on a CPU a full-size model takes minutes an image."""

_SLOW = re.compile(r"Deployment '(\w+)'.* to be scheduled\..*each replica: (\{.*?\}).*available: (\{.*?\})")
SAY_WHAT_WAITS = {"RAY_SERVE_SLOW_STARTUP_WARNING_S": "10", "RAY_SERVE_SLOW_STARTUP_WARNING_PERIOD_S": "5"}
"""Makes Serve say soon that a replica finds no room; on a Ray of one's own none will ever come."""


@contextmanager
def private_ray(progress: Progress) -> Iterator[None]:
    """Start a Ray of our own, with Serve but without HTTP, and stop it at the end, its files included."""
    # Before the import: Ray reads them once.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")
    for name, value in SAY_WHAT_WAITS.items():
        os.environ.setdefault(name, value)
    import ray
    from ray import serve

    folder = tempfile.mkdtemp(prefix="genseg-", dir=_short_folder())
    try:
        with progress.step("starting Ray"):
            keeping_signals(
                lambda: ray.init(
                    address="local",
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    _temp_dir=folder,
                )
            )
            logging.getLogger("ray.serve").setLevel(logging.ERROR)
            serve.start(proxy_location="Disabled")
        # No serve.shutdown() at the end: it takes seconds, and Ray's own end takes every process with it.
        yield
    finally:
        finish_undisturbed()
        with suppress(Exception):
            ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _short_folder() -> str:
    """Where the session's files go: its sockets' paths, about 75 characters below it, may have 107 in all."""
    folder = tempfile.gettempdir()
    return folder if len(folder) <= 30 else "/tmp"


def find_checkpoints(config: AppConfig) -> None:
    """Look for checkpoints that are local folders before anything is started for them.

    Raises:
        CheckpointError: one is not there.
    """
    from serve_app.models import locations

    if config.models.text_parser.engine == "transformers":
        locations.resolve(config.models.text_parser.model_name, "parser")
    locations.resolve(config.models.segmentation.model_name, "segmenter")


@contextmanager
def local_graph(config: AppConfig, progress: Progress) -> Iterator[Any]:
    """Start the graph without HTTP.

    Args:
        config: of the graph.
        progress: told of each step.

    Yields:
        The application's handle.

    Raises:
        GensegError: a model could not be loaded; the message is the loader's own.
    """
    find_checkpoints(config)
    with private_ray(progress):
        from ray import serve

        from serve_app.app import APP_NAME, bind

        with progress.step(f"loading models ({_names(config)})"):
            run_application(bind(patient(config)), APP_NAME, route_prefix=None)
        yield serve.get_app_handle(APP_NAME)


def patient(config: AppConfig) -> AppConfig:
    """Let requests of a graph of one's own take their time, and ask for no token: it has no HTTP, and one caller."""
    serving = config.serving.model_copy(update={"max_timeout_s": max(PATIENCE_S, config.serving.max_timeout_s)})
    return config.model_copy(update={"serving": serving, "auth": AuthConfig()})


def _names(config: AppConfig) -> str:
    names = (config.models.text_parser.model_name, config.models.segmentation.model_name)
    return ", ".join(dict.fromkeys(names))


def run_application(application: Any, name: str, route_prefix: str | None, *, grows: bool = False) -> None:
    """Deploy an application and wait until it runs; `grows` as in wait_until_running.

    Raises:
        GensegError: it cannot start; the message is the model loader's own where that is the reason.
    """
    from ray import serve

    target = serve.RunTarget(application, name=name, route_prefix=route_prefix)
    serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
    wait_until_running(name, grows=grows)


def wait_until_running(name: str, *, grows: bool) -> None:
    """Wait until an application that was deployed runs.

    Args:
        name: of the application.
        grows: whether the cluster may get the resources that it lacks; if not, waiting for them is an error.

    Raises:
        GensegError: it cannot start.
    """
    from ray import serve

    while True:
        status = serve.status().applications.get(name)
        if status is not None and status.status == "RUNNING":
            return
        if status is not None and status.status in {"DEPLOY_FAILED", "UNHEALTHY"}:
            raise start_failure(_status_text(name))
        lacking = None if grows else unplaced(_status_text(name))
        if lacking is not None:
            raise InternalError(lacking)
        time.sleep(0.2)


def unplaced(report: str) -> str | None:
    """Find in Serve's report that a replica finds no room; returns a line for the user, None where all found some.

    Serve says the same of a replica whose process is slow to start: what it needs must really be lacking.
    """
    for deployment, needed, left in _SLOW.findall(report):
        available = json.loads(left)
        if any(amount > available.get(resource, 0) for resource, amount in json.loads(needed).items()):
            return f"{deployment} asks for {needed} a replica, and there is {left} left on this machine"
    return None


def _status_text(name: str) -> str:
    from ray import serve

    status = serve.status().applications.get(name)
    if status is None:
        return ""
    return "\n".join([status.message, *(deployment.message for deployment in status.deployments.values())])


def start_failure(report: str) -> GensegError:
    """Find our own line in Ray's report of a failed start, which is a remote traceback."""
    for line in report.replace("\\n", "\n").splitlines():
        for marker in ("CheckpointError: ", "ConfigError: "):
            if marker in line:
                return CheckpointError(line.split(marker, 1)[1].strip())
    lines = [line.strip() for line in report.splitlines() if line.strip()]
    return InternalError(f"the graph could not be started: {lines[-1][:300] if lines else 'no reason given'}")
