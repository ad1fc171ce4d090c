"""Starts and stops a private Ray, or joins and leaves a cluster.

A private Ray is started by a command for itself, and ends with the command. No other module of the command line starts,
joins or leaves Ray.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from serve_app.cli.console import Progress
from serve_app.cli.options import CommandError
from serve_app.cli.ray_address import PRIVATE_FOLDER, asks_for_token, find_cluster
from serve_app.cli.signals import finish_undisturbed, keeping_signals

SERVE_NAMESPACE = "serve"  # Source: ray.serve._private.constants.SERVE_NAMESPACE
QUIET = {"RAY_SERVE_LOG_TO_STDERR": "0"}
FEW_HEAPS = {"MALLOC_ARENA_MAX": "2"}
"""By default glibc makes up to eight heaps per core for Ray's threads, and each heap has free memory of its own.
Processes read the variable when they start."""
SEGMENTS_THAT_GROW = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
"""Batches differ in size. By default PyTorch's blocks of GPU memory have fixed sizes, and the unused rest of a block is
often too small for another batch. With this setting, blocks grow instead. How much memory it saves was not measured.
Source: PyTorch, "Memory management" in the notes on CUDA."""
STARTS_AS_CONFIGURED = {"RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT": "1000"}
"""Without it, Serve stops after three failed starts per replica, even if `serving.max_failed_starts` is higher."""
WORKERS = 4
"""How many processes a graph on a private Ray needs: Serve's controller and three replicas. If `start` has
a folder, it gives Ray at least as many CPUs, because Ray starts one process per CPU in advance, and further ones only
when they are needed."""
OUR_LINES_ONLY = {
    "RAY_DEDUP_LOGS_SKIP_REGEX": (
        r"^(INFO|WARNING) \S+ \S+ (controller|proxy) "  # Source: ray.serve._private.constants, the format of log lines
        r"|This may be caused by a slow __init__ or reconfigure method"  # the second line of a controller's warning
        r"|There are infinite retries remaining"  # while Serve stops: Ray retries the call that ended the controller
        r"|Started <ray\.serve\._private"
        r"|Loading weights: "  # a progress bar of transformers that lasts a second
    )
}
"""Keeps the log lines of Serve's own processes off the console, so that the lines of our replicas can be seen. Serve's
log files have them all."""
SAY_WHAT_WAITS = {"RAY_SERVE_SLOW_STARTUP_WARNING_S": "10", "RAY_SERVE_SLOW_STARTUP_WARNING_PERIOD_S": "5"}
"""Makes Serve report early that a replica waits for resources. A private Ray never gets more resources, so
the replica would wait for ever. See deploy.unplaced."""


def set_environment(**variables: str) -> None:
    """Set environment variables for Ray, unless they are set already.

    Call this before Ray is imported, because the import reads some of them.

    Args:
        variables: variables in addition to those that all commands need.
    """
    for name, value in {"RAY_USAGE_STATS_ENABLED": "0", **FEW_HEAPS, **SEGMENTS_THAT_GROW, **variables}.items():
        os.environ.setdefault(name, value)


@contextmanager
def private_ray(progress: Progress) -> Iterator[None]:
    """Start a private Ray with Serve but without HTTP. At the end, stop it and delete its files.

    Never joins a running Ray cluster.
    """
    set_environment(**QUIET)
    from ray import serve

    folder = tempfile.mkdtemp(prefix=PRIVATE_FOLDER, dir=_short_folder())
    try:
        with progress.step("starting Ray"):
            start(logs=False, folder=folder)
            serve.start(proxy_location="Disabled")
        # No serve.shutdown() at the end: it takes seconds, and stopping Ray ends every process anyway.
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
        address: the cluster's HOST:PORT, or `auto`; None for RAY_ADDRESS, or a cluster on this machine, if any.
        progress: gets a line that names the cluster.

    Yields:
        Whether a cluster was joined; False for `local`, or if none is named and none runs here.

    Raises:
        CommandError: there is no cluster at the named address, or it cannot be joined.
    """
    set_environment(**QUIET)
    joined = join(address, progress, logs=False)
    try:
        yield joined
    finally:
        if joined:
            leave()


def start(*, logs: bool, folder: str | None = None) -> None:
    """Start a private Ray on this machine. `leave` stops it, with all its processes.

    Args:
        logs: whether its processes write to our stdout and stderr.
        folder: the folder for Ray's files; None lets Ray choose the folder and the number of CPUs, as a service does.

    Raises:
        CommandError: Ray does not start.
        KeyboardInterrupt: a signal came while Ray was starting.
    """
    set_environment(**SAY_WHAT_WAITS, **STARTS_AS_CONFIGURED)
    options: dict[str, Any] = {} if folder is None else {"num_cpus": max(WORKERS, os.cpu_count() or 1)}
    try:
        _init("local", logs=logs, include_dashboard=False, _temp_dir=folder, **options)
    except Exception as error:  # Ray also raises plain Exceptions
        raise CommandError(f"Ray does not start on this machine: {_first_line(error)}") from error


def resources_of_this_machine() -> dict[str, float]:
    """Return the resources that a Ray on this machine would have. Ray detects them in milliseconds."""
    from ray._private.resource_and_label_spec import ResourceAndLabelSpec  # there is no public function for it

    found: dict[str, float] = ResourceAndLabelSpec().resolve(is_head=True).to_resource_dict()
    return found


def resources_of_nodes() -> list[dict[str, float]]:
    """Return the resources of each living node of the Ray that was started or joined."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def join(address: str | None, progress: Progress, *, logs: bool) -> bool:
    """Join a cluster. The cluster keeps running after `leave`.

    Args:
        address: the cluster's HOST:PORT, or `auto`; None for RAY_ADDRESS, or a cluster on this machine, if any.
        progress: gets a line that names the cluster.
        logs: whether the processes that the cluster starts for us write to our stdout and stderr.

    Returns:
        Whether a cluster was joined; False for `local`, or if none is named and none runs here.

    Raises:
        CommandError: there is no cluster at the named address, or it cannot be joined.
        KeyboardInterrupt: a signal came while Ray joined the cluster.
    """
    found = find_cluster(address)
    if found is None:
        return False
    from ray.exceptions import RayError

    _take_token()
    try:
        _init(found, logs=logs)
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:  # RuntimeError: another version of Ray
        if asks_for_token(found):
            raise CommandError(
                f"the Ray cluster at {found} asks for a token, and this environment has none or a wrong one; "
                "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or the file ~/.ray/auth_token"
            ) from None
        raise CommandError(f"no Ray cluster at {found} to join: {_first_line(error)}") from None
    progress.say(f"joined the Ray cluster at {found}")
    return True


def _take_token() -> None:
    """Use Ray's token if this environment has one, unless RAY_AUTH_MODE says otherwise.

    A Ray on this machine may ask for the token that it wrote into the user's home folder. `ray.init` uses that token by
    itself only if it gets no address. Here it gets one.
    """
    from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available

    logging.getLogger("ray").setLevel(logging.ERROR)  # the call below logs a warning
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def leave() -> None:
    """Leave the Ray that was joined, or stop the one that was started, if any."""
    if "ray" in sys.modules:
        import ray

        ray.shutdown()


def _init(address: str, *, logs: bool, **options: Any) -> None:
    import ray

    keeping_signals(
        lambda: ray.init(address, namespace=SERVE_NAMESPACE, logging_level=logging.ERROR, log_to_driver=logs, **options)
    )
    logging.getLogger("ray.serve").setLevel(logging.WARNING if logs else logging.ERROR)


def _short_folder() -> str:
    """Return a short folder for the session. A socket's path may have 107 characters, and Ray appends about 75."""
    folder = tempfile.gettempdir()
    return folder if len(folder) <= 30 else "/tmp"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
