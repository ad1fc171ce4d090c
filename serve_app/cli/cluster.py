"""The graph for a job: the service that runs on a cluster, or replicas of the job's own that go when it ends."""

from __future__ import annotations

import copy
import logging
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from serve_app.cli.console import Progress
from serve_app.cli.local_graph import patient, private_ray, run_application, wait_until_running
from serve_app.cli.options import CommandError
from serve_app.cli.signals import finish_undisturbed, keeping_signals
from serve_app.config.files import LoadedConfig

NO_OPTIONS = frozenset({"name", "rolling_update_percentage"})  # the rest of a deployment in a Serve config is one
KNOCK_S = 5.0
SERVE_NAMESPACE = "serve"  # Source: ray.serve._private.constants.SERVE_NAMESPACE


@contextmanager
def job_graph(
    loaded: LoadedConfig, progress: Progress, *, address: str | None, app_name: str, standalone: bool
) -> Iterator[Any]:
    """Find or start the graph.

    Args:
        loaded: configuration of a graph of the job's own; of a Serve config, its deployments' options count too.
        progress: told of each step.
        address: the cluster's; None for the one that RAY_ADDRESS names or that runs on this machine, if any.
        app_name: of the running application.
        standalone: start replicas even where the application runs.

    Yields:
        The application's handle.

    Raises:
        CommandError: there is no cluster at the address.
        GensegError: the graph cannot be started; the message is the model loader's own.
    """
    with _cluster(address, progress) as joined:
        from ray import serve

        if not joined:
            with private_ray(progress):
                _deploy(loaded, progress, app_name, grows=False)
                yield serve.get_app_handle(app_name)
        elif not standalone and is_deployed(app_name):
            with progress.step(f"using the application {app_name!r}"):
                wait_until_running(app_name, grows=True)
            yield serve.get_app_handle(app_name)
        else:
            with _own_graph(loaded, progress, f"{app_name}-batch-{uuid.uuid4().hex[:8]}") as handle:
                yield handle


@contextmanager
def _own_graph(loaded: LoadedConfig, progress: Progress, name: str) -> Iterator[Any]:
    """Deploy the graph beside whatever else the cluster serves, with no door for HTTP, and delete it at the end."""
    import ray
    from ray import serve

    was_there = any(actor["namespace"] == SERVE_NAMESPACE for actor in ray.util.list_named_actors(all_namespaces=True))
    serve.start(proxy_location="Disabled")  # does nothing where Serve runs
    try:
        _deploy(loaded, progress, name, grows=True)
        yield serve.get_app_handle(name)
    finally:
        finish_undisturbed()
        with suppress(Exception), progress.step("removing the replicas"):
            serve.delete(name)
            if not was_there and not serve.status().applications:
                serve.shutdown()


def _deploy(loaded: LoadedConfig, progress: Progress, name: str, *, grows: bool) -> None:
    from serve_app.app import bind

    with progress.step("loading models"):
        options = copy.deepcopy(deployment_options(loaded.serve))
        # The file's deadlines and tokens are for a service; nobody but this job calls this graph.
        for section in ("serving", "auth"):
            options.get("Ingress", {}).get("user_config", {}).pop(section, None)
        run_application(bind(patient(loaded.app), options), name, route_prefix=None, grows=grows)


def deployment_options(document: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Collect the deployments' options (GPU fractions, autoscaling, …) of a Serve config by the deployment's name.

    Args:
        document: the file, checked; None for a file of our own schema.
    """
    from serve_app.config.serve_config import IMPORT_PATH

    for application in (document or {}).get("applications", []):
        if application.get("import_path") == IMPORT_PATH:
            return {
                deployment["name"]: {name: value for name, value in deployment.items() if name not in NO_OPTIONS}
                for deployment in application.get("deployments", [])
            }
    return {}


def is_deployed(name: str) -> bool:
    """Say whether the Ray that is joined serves an application, or is about to; False where Serve does not run."""
    from ray import serve

    application = serve.status().applications.get(name)
    return application is not None and application.status in {"DEPLOYING", "RUNNING", "UNHEALTHY"}


@contextmanager
def _cluster(address: str | None, progress: Progress) -> Iterator[bool]:
    """Join a cluster and leave it at the end; yields False where there is none."""
    # Before the import: Ray reads them once.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")
    import ray

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    named = address or os.environ.get("RAY_ADDRESS")
    if named:
        _check_reachable(named)
    context: Any = None
    try:
        context = keeping_signals(
            lambda: ray.init(
                address or "auto", namespace=SERVE_NAMESPACE, logging_level=logging.ERROR, log_to_driver=False
            )
        )
    except (ConnectionError, ValueError) as error:
        if named:
            raise CommandError(f"no Ray cluster at {named}: {str(error).splitlines()[0][:200]}") from None
    try:
        if context is not None:
            progress.say(f"joined the Ray cluster at {context.address_info['address']}")
        yield context is not None
    finally:
        if context is not None:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    """Knock at a cluster's door: Ray itself goes on trying for minutes.

    Raises:
        CommandError: the address is no HOST:PORT, or nobody answers there.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in address:
        raise CommandError(f"Ray address {address}: must be HOST:PORT of the cluster's head, such as 127.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_S).close()
    except (OSError, OverflowError) as error:
        raise CommandError(f"no Ray cluster at {address}: {error}") from None
