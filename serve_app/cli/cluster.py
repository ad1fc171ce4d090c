"""Provides the Serve application on which a dataset job runs: a running one, or one that is removed after the job."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from serve_app.cli import ray_session
from serve_app.cli.console import Progress
from serve_app.cli.deploy import find_checkpoints, for_own_ray, lacking_room, run_application, wait_until_running
from serve_app.cli.local_graph import patient
from serve_app.cli.options import CommandError
from serve_app.cli.signals import finish_undisturbed
from serve_app.config.files import LoadedConfig

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

NO_OPTIONS = frozenset({"name", "rolling_update_percentage"})
"""Keys of a deployment in a Serve config that `Deployment.options()` does not take. It takes all other keys."""


@contextmanager
def job_graph(
    loaded: LoadedConfig, progress: Progress, *, address: str | None, app_name: str, standalone: bool
) -> Iterator[DeploymentHandle[Any]]:
    """Find the running application, or start one, which is removed when the block ends.

    Args:
        loaded: the configuration of an application that is started. From a Serve config, the options of its deployments
            are used too.
        progress: gets a line for each step.
        address: the cluster's HOST:PORT; None for RAY_ADDRESS, or a cluster on this machine, if any.
        app_name: name of the running application.
        standalone: start an application even if one of that name runs.

    Yields:
        The application's handle.

    Raises:
        CommandError: there is no cluster at the address, or no application of that name.
        GensegError: the application cannot be started.
    """
    with ray_session.cluster(address, progress) as joined:
        from ray import serve

        from serve_app.app import APP_NAME

        if app_name != APP_NAME and not standalone and not (joined and _is_deployed(app_name)):
            running = ", ".join(serve.status().applications) if joined else ""
            raise CommandError(f"--app {app_name}: no such application runs here; running: {running or 'none'}")
        if not joined:
            find_checkpoints(loaded.app)
            with ray_session.private_ray(progress):
                if lacking := lacking_room(loaded.app, loaded.serve, ray_session.resources_of_nodes()):
                    raise CommandError(lacking)
                _deploy(loaded, progress, app_name, grows=False)
                yield serve.get_app_handle(app_name)
        elif not standalone and _is_deployed(app_name):
            with progress.step(f"using the application {app_name!r}"):
                wait_until_running(app_name, grows=True, say=progress.say)
            yield serve.get_app_handle(app_name)
        else:
            with _own_graph(loaded, progress, f"{app_name}-batch-{uuid.uuid4().hex[:8]}") as handle:
                yield handle


@contextmanager
def _own_graph(loaded: LoadedConfig, progress: Progress, name: str) -> Iterator[DeploymentHandle[Any]]:
    """Deploy an application without HTTP beside the cluster's other applications, and delete it at the end."""
    import ray
    from ray import serve

    actors = ray.util.list_named_actors(all_namespaces=True)
    serve_ran = any(actor["namespace"] == ray_session.SERVE_NAMESPACE for actor in actors)
    serve.start(proxy_location="Disabled")  # does nothing if Serve runs
    try:
        _deploy(loaded, progress, name, grows=True)
        yield serve.get_app_handle(name)
    finally:
        finish_undisturbed()
        with suppress(Exception), progress.step("removing the replicas"):
            serve.delete(name)
            if not serve_ran and not serve.status().applications:
                serve.shutdown()


def _deploy(loaded: LoadedConfig, progress: Progress, name: str, *, grows: bool) -> None:
    from serve_app.app import bind

    with progress.step("loading models"):
        options = copy.deepcopy(deployment_options(loaded.serve))
        # The file's deadlines and tokens are meant for a service. Only this job calls this application.
        for section in ("serving", "auth"):
            options.get("Ingress", {}).get("user_config", {}).pop(section, None)
        config = patient(loaded.app) if grows else for_own_ray(patient(loaded.app))
        run_application(bind(config, options), name, route_prefix=None, grows=grows, say=progress.say)


def deployment_options(document: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Return the options (GPU fractions, autoscaling, …) of a Serve config's deployments, by the deployment's name.

    Args:
        document: the checked Serve config; None for a plain configuration file, which has no such options.
    """
    from serve_app.config.serve_config import IMPORT_PATH

    for application in (document or {}).get("applications", []):
        if application.get("import_path") == IMPORT_PATH:
            return {
                deployment["name"]: {name: value for name, value in deployment.items() if name not in NO_OPTIONS}
                for deployment in application.get("deployments", [])
            }
    return {}


def _is_deployed(name: str) -> bool:
    """Return whether an application runs or starts on the joined Ray, healthy or not; False if Serve does not run."""
    from ray import serve

    application = serve.status().applications.get(name)
    return application is not None and application.status in {"DEPLOYING", "RUNNING", "UNHEALTHY"}
