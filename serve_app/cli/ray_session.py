"""Ray for as long as a command needs it: a private one that is started and stopped, or a cluster, joined and left.

The only place of the command line that sets what Ray reads from the environment, starts Ray, joins it and leaves it.
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
"""By itself glibc makes up to eight heaps a core, each with its own free memory, while Ray starts its threads. The
processes read the variable when they start."""
SEGMENTS_THAT_GROW = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
"""Batches differ in size. By itself PyTorch keeps a piece of the GPU's memory for each size, and can use no rest of
one for another. What this saves was not measured. Source: PyTorch, "Memory management" in the notes on CUDA."""
STARTS_AS_CONFIGURED = {"RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT": "1000"}
"""Otherwise Serve gives up after three failed starts a replica, whatever `serving.max_failed_starts` says."""
WORKERS = 4
"""Processes of a graph of one's own: Serve's controller and three replicas. Ray starts as many at once as it has CPUs,
and further ones only when they are asked for."""
OUR_LINES_ONLY = {
    "RAY_DEDUP_LOGS_SKIP_REGEX": (
        r"^(INFO|WARNING) \S+ \S+ (controller|proxy) "  # Source: ray.serve._private.constants, the format of log lines
        r"|This may be caused by a slow __init__ or reconfigure method"  # the second line of a controller's warning
        r"|There are infinite retries remaining"  # of a call that ends the controller, which answers no more
        r"|Started <ray\.serve\._private"
        r"|Loading weights: "  # a bar of transformers, of a second
    )
}
"""What Serve's own processes say is in their log files; on the console it hides what our replicas say."""
SAY_WHAT_WAITS = {"RAY_SERVE_SLOW_STARTUP_WARNING_S": "10", "RAY_SERVE_SLOW_STARTUP_WARNING_PERIOD_S": "5"}
"""Makes Serve report soon that a replica waits for resources, see deploy.unplaced; a private Ray never gets more."""


def set_environment(**variables: str) -> None:
    """Set variables that Ray reads: some once, when it is imported, so this comes before; some in processes it starts.

    Args:
        variables: set where the environment does not set them already, and with them those that all commands need.
    """
    for name, value in {"RAY_USAGE_STATS_ENABLED": "0", **FEW_HEAPS, **SEGMENTS_THAT_GROW, **variables}.items():
        os.environ.setdefault(name, value)


@contextmanager
def private_ray(progress: Progress) -> Iterator[None]:
    """Start a private Ray, with Serve but without HTTP, and stop it at the end, its files included.

    Never joins a Ray cluster that is running already.
    """
    set_environment(**QUIET)
    from ray import serve

    folder = tempfile.mkdtemp(prefix=PRIVATE_FOLDER, dir=_short_folder())
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
    joined = join(address, progress, logs=False)
    try:
        yield joined
    finally:
        if joined:
            leave()


def start(*, logs: bool, folder: str | None = None) -> None:
    """Start a private Ray on this machine; `leave` stops it, with every process of it.

    Args:
        logs: let its processes write to our stdout and stderr.
        folder: where its files go, of a Ray for one command; None for Ray's own choice, of a service.

    Raises:
        CommandError: it does not start.
        KeyboardInterrupt: a signal came meanwhile.
    """
    set_environment(**SAY_WHAT_WAITS, **STARTS_AS_CONFIGURED)
    options: dict[str, Any] = {} if folder is None else {"num_cpus": max(WORKERS, os.cpu_count() or 1)}
    try:
        _init("local", logs=logs, include_dashboard=False, _temp_dir=folder, **options)
    except Exception as error:  # Ray raises plain ones, too
        raise CommandError(f"Ray does not start on this machine: {_first_line(error)}") from error


def resources_of_this_machine() -> dict[str, float]:
    """Return what a Ray started on this machine would have, by its own detection; takes milliseconds."""
    from ray._private.resource_and_label_spec import ResourceAndLabelSpec  # there is no public function for it

    found: dict[str, float] = ResourceAndLabelSpec().resolve(is_head=True).to_resource_dict()
    return found


def resources_of_nodes() -> list[dict[str, float]]:
    """Return what each node has of the Ray that was started or joined."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def join(address: str | None, progress: Progress, *, logs: bool) -> bool:
    """Join a cluster; `leave` leaves it running.

    Args:
        address: the cluster's; None for the one that RAY_ADDRESS names or that runs on this machine, if any.
        progress: told of the cluster.
        logs: let the processes that it starts for us write to our stdout and stderr.

    Returns:
        False where no address is named and no cluster is found.

    Raises:
        CommandError: there is no cluster at the address that is named, or it cannot be joined.
        KeyboardInterrupt: a signal came meanwhile.
    """
    found = find_cluster(address)
    if found is None:
        return False
    from ray.exceptions import RayError

    _take_token()
    try:
        _init(found, logs=logs)
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:  # RuntimeError: of another version
        if asks_for_token(found):
            raise CommandError(
                f"the Ray cluster at {found} refuses the token of this environment, or there is none; "
                "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or the file ~/.ray/auth_token"
            ) from None
        raise CommandError(f"no Ray cluster at {found} to join: {_first_line(error)}") from None
    progress.say(f"joined the Ray cluster at {found}")
    return True


def _take_token() -> None:
    """Use Ray's token where there is one, and unless RAY_AUTH_MODE says otherwise.

    A Ray that was started on this machine asks for the token that it left in the user's folder. Ray takes it only where
    it finds the cluster by itself; here the address is known.
    """
    from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available

    logging.getLogger("ray").setLevel(logging.ERROR)  # it warns that it does so
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
    """Where the session's files go: its sockets' paths, about 75 characters below it, may have 107 in all."""
    folder = tempfile.gettempdir()
    return folder if len(folder) <= 30 else "/tmp"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
