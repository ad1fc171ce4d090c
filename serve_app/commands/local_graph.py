"""The graph on this machine, for as long as a command needs it: a Ray of its own, started and stopped again.

Never joins a Ray cluster that is running already: its own is private, and goes with it.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from serve_app.commands.progress import Progress
from serve_app.config import AppConfig
from serve_app.errors import CheckpointError, GensegError, InternalError

START_TIMEOUT_S = 1800.0
"""The largest checkpoints take minutes to download and load; Ctrl-C works all the time."""


@contextmanager
def private_ray() -> Iterator[None]:
    """Start a Ray of our own and stop it at the end, its files included."""
    # Before the import: Ray reads them once.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")
    import ray
    from ray import serve

    folder = tempfile.mkdtemp(prefix="genseg-")  # short: socket paths inside may have 107 characters
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    try:
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=folder,
        )
        try:
            yield
        finally:
            with suppress(Exception):
                serve.shutdown()
    finally:
        with suppress(Exception):
            ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


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
    with private_ray():
        from ray import serve

        from serve_app.app import APP_NAME, bind

        with progress.step("starting Ray"):
            serve.start(proxy_location="Disabled")
        with progress.step(f"loading models ({_names(config)})"):
            serve.run(bind(config), name=APP_NAME, route_prefix=None, _local_testing_mode=False, blocking=False)
            wait_until_running(APP_NAME)
        yield serve.get_app_handle(APP_NAME)


def _names(config: AppConfig) -> str:
    names = (config.models.text_parser.model_name, config.models.segmentation.model_name)
    return ", ".join(dict.fromkeys(names))


def wait_until_running(name: str) -> None:
    """Wait until an application runs.

    Raises:
        CheckpointError: a model could not be loaded.
        InternalError: it did not start for another reason, or not in time.
    """
    from ray import serve

    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        status = serve.status().applications.get(name)
        if status is not None and status.status == "RUNNING":
            return
        if status is not None and status.status in {"DEPLOY_FAILED", "UNHEALTHY"}:
            raise start_failure(status)
        time.sleep(0.1)
    raise InternalError(f"the graph did not start within {START_TIMEOUT_S:.0f} s")


def start_failure(status: Any) -> GensegError:
    """Find our own line in Ray's report of a failed start."""
    report = " ".join([status.message, *(deployment.message for deployment in status.deployments.values())])
    for line in report.replace("\\n", "\n").splitlines():
        for marker in ("CheckpointError: ", "ConfigError: "):
            if marker in line:
                return CheckpointError(line.split(marker, 1)[1].strip())
    lines = [line.strip() for line in report.splitlines() if line.strip()]
    return InternalError(f"the graph could not be started: {json.dumps(lines[-1][:300]) if lines else 'no reason'}")
