"""Ray for as long as a command needs it: a private one that is started and stopped, or a cluster, joined and left.

The only place of the command line that sets what Ray reads from the environment, starts Ray, joins it and leaves it.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from serve_app.cli.console import Progress
from serve_app.cli.options import CommandError
from serve_app.cli.signals import finish_undisturbed, keeping_signals

SERVE_NAMESPACE = "serve"  # Source: ray.serve._private.constants.SERVE_NAMESPACE
CONNECT_TIMEOUT_S = 5.0
QUIET = {"RAY_SERVE_LOG_TO_STDERR": "0"}
SAY_WHAT_WAITS = {"RAY_SERVE_SLOW_STARTUP_WARNING_S": "10", "RAY_SERVE_SLOW_STARTUP_WARNING_PERIOD_S": "5"}
"""Makes Serve report soon that a replica waits for resources, see deploy.unplaced; a private Ray never gets more."""


def set_environment(**variables: str) -> None:
    """Set variables that Ray reads: some once, when it is imported, so this comes before; some in processes it starts.

    Args:
        variables: set where the environment does not set them already, and with them those that all commands need.
    """
    for name, value in {"RAY_USAGE_STATS_ENABLED": "0", **variables}.items():
        os.environ.setdefault(name, value)


@contextmanager
def private_ray(progress: Progress) -> Iterator[None]:
    """Start a private Ray, with Serve but without HTTP, and stop it at the end, its files included.

    Never joins a Ray cluster that is running already.
    """
    set_environment(**QUIET)
    from ray import serve

    folder = tempfile.mkdtemp(prefix="genseg-", dir=_short_folder())
    try:
        with progress.step("starting Ray"):
            start(logs=False, folder=folder)
            serve.start(proxy_location="Disabled")
        # No serve.shutdown() at the end: it takes seconds, and Ray's own end takes every process with it.
        yield
    finally:
        finish_undisturbed()
        with suppress(Exception):
            leave()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def cluster(address: str | None, progress: Progress) -> Iterator[bool]:
    """Join a cluster and leave it at the end.

    Args:
        address: the cluster's; None for the one that RAY_ADDRESS names or that runs on this machine, if any.
        progress: told of the cluster.

    Yields:
        False where no address is named and no cluster is found.

    Raises:
        CommandError: there is no cluster at the address that is named.
    """
    set_environment(**QUIET)
    named = address or os.environ.get("RAY_ADDRESS")
    if named:
        _check_reachable(named)
    joined = False
    try:
        join(address or "auto", progress, logs=False)
        joined = True
    except (ConnectionError, ValueError) as error:
        if named:
            raise CommandError(f"no Ray cluster at {named}: {str(error).splitlines()[0][:200]}") from None
    try:
        yield joined
    finally:
        if joined:
            leave()


def start(*, logs: bool, folder: str | None = None) -> None:
    """Start a private Ray on this machine; `leave` stops it, with every process of it.

    Args:
        logs: let its processes write to our stdout and stderr.
        folder: where its files go; None for Ray's own choice.

    Raises:
        KeyboardInterrupt: a signal came meanwhile.
    """
    set_environment(**SAY_WHAT_WAITS)
    _init("local", logs=logs, include_dashboard=False, _temp_dir=folder)


def resources_of_this_machine() -> dict[str, float]:
    """Return what a Ray started on this machine would have, by its own detection; takes milliseconds."""
    from ray._private.resource_and_label_spec import ResourceAndLabelSpec  # there is no public function for it

    found: dict[str, float] = ResourceAndLabelSpec().resolve(is_head=True).to_resource_dict()
    return found


def resources_of_nodes() -> list[dict[str, float]]:
    """Return what each node has of the Ray that was started or joined."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def join(address: str, progress: Progress, *, logs: bool) -> None:
    """Join a cluster; `leave` leaves it running.

    Args:
        address: the cluster's, or "auto" for the one that RAY_ADDRESS names or that runs on this machine.
        progress: told of the cluster.
        logs: let the processes that it starts for us write to our stdout and stderr.

    Raises:
        ConnectionError: there is none.
        ValueError: the address is not valid.
        KeyboardInterrupt: a signal came meanwhile.
    """
    import ray

    _init(address, logs=logs)
    progress.say(f"joined the Ray cluster at {ray.get_runtime_context().gcs_address}")


def leave() -> None:
    """Leave the Ray that was joined, or stop the one that was started."""
    import ray

    ray.shutdown()


def _init(address: str, *, logs: bool, **options: Any) -> None:
    import ray

    keeping_signals(
        lambda: ray.init(address, namespace=SERVE_NAMESPACE, logging_level=logging.ERROR, log_to_driver=logs, **options)
    )
    if not logs:
        logging.getLogger("ray.serve").setLevel(logging.ERROR)


def _short_folder() -> str:
    """Where the session's files go: its sockets' paths, about 75 characters below it, may have 107 in all."""
    folder = tempfile.gettempdir()
    return folder if len(folder) <= 30 else "/tmp"


def _check_reachable(address: str) -> None:
    """Connect to a cluster's head once: Ray itself goes on trying for minutes.

    Raises:
        CommandError: the address is not HOST:PORT, or nothing answers there.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in address:
        raise CommandError(f"Ray address {address}: must be HOST:PORT of the cluster's head, such as 127.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise CommandError(f"no Ray cluster at {address}: {error}") from None
