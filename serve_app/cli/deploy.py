"""Deploys Serve applications, waits until they run, and says why an application does not start."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve_app.config.files import LoadedConfig
from serve_app.config.schema import AppConfig
from serve_app.errors import CheckpointError, GensegError, InternalError

if TYPE_CHECKING:
    from ray.serve import Application
    from ray.serve.schema import ApplicationStatusOverview, LoggingConfig

POLL_S = 0.2
OWN_RAY_FAILED_STARTS = 2
"""Default of `serving.max_failed_starts` on a Ray that a command starts. A model that failed to load there twice will
not load later."""
_RETRYING = re.compile(r"A replica failed to start.*?Retrying (\d+) more time")
_SLOW = re.compile(r"Deployment '(\w+)'.* to be scheduled\..*each replica: (\{.*?\}).*available: (\{.*?\})")


def find_checkpoints(config: AppConfig) -> None:
    """Check that the configured checkpoints exist on this machine or on the hub, before anything is started.

    Raises:
        CheckpointError: a folder does not exist, the hub knows no such model, or the hub cannot be reached.
    """
    from serve_app.models import hub, locations

    names: list[tuple[str, locations.Kind]] = [(config.models.segmentation.model_name, "segmenter")]
    if config.models.text_parser.engine == "transformers":
        names.insert(0, (config.models.text_parser.model_name, "parser"))
    if config.models.identity_name is not None:
        names.append((config.models.identity_name, "identity"))
    sources = [(name, locations.resolve(name, kind)) for name, kind in names]
    for name, source in sources:
        if source == name and not Path(source).is_dir():
            hub.check_name(name)


def for_own_ray(config: AppConfig) -> AppConfig:
    """Return the configuration with OWN_RAY_FAILED_STARTS, unless it sets `serving.max_failed_starts` itself."""
    if config.serving.max_failed_starts is not None:
        return config
    serving = config.serving.model_copy(update={"max_failed_starts": OWN_RAY_FAILED_STARTS})
    return config.model_copy(update={"serving": serving})


def file_for_own_ray(loaded: LoadedConfig) -> LoadedConfig:
    """Return a loaded file with OWN_RAY_FAILED_STARTS, as `for_own_ray` does.

    In a Serve config it is also set in `args:`, because Ray builds the application from them.
    """
    from serve_app.config.serve_config import IMPORT_PATH

    document = copy.deepcopy(loaded.serve)
    for application in (document or {}).get("applications", []):
        if application.get("import_path") == IMPORT_PATH:
            args = application.get("args") or {}
            serving = {**(args.get("serving") or {})}
            if serving.get("max_failed_starts") is None:
                serving["max_failed_starts"] = OWN_RAY_FAILED_STARTS
            application["args"] = {**args, "serving": serving}
    return LoadedConfig(for_own_ray(loaded.app), document)


def run_application(
    application: Application,
    name: str,
    route_prefix: str | None,
    *,
    grows: bool = False,
    say: Callable[[str], None] | None = None,
) -> None:
    """Deploy an application and wait until it runs; `grows` and `say` as in wait_until_running.

    Raises:
        GensegError: it cannot start. If a model cannot be loaded, the message is the model loader's own.
    """
    hand_over(application, name, route_prefix)
    wait_until_running(name, grows=grows, say=say)


def hand_over(application: Application, name: str, route_prefix: str | None) -> None:
    """Hand an application to Serve, which starts its replicas. Does not wait for them."""
    from ray import serve

    target = serve.RunTarget(application, name=name, route_prefix=route_prefix, logging_config=without_access_log(None))
    serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)


def without_access_log(given: LoggingConfig | None) -> LoggingConfig:
    """Return Serve's logging options without the access log, unless they ask for it. The ingress logs each request.

    Args:
        given: the options in a Serve config; None if it has none.
    """
    from ray.serve.schema import LoggingConfig

    if given is None:
        return LoggingConfig(enable_access_log=False)
    if "enable_access_log" in given.model_fields_set:
        return given
    return given.model_copy(update={"enable_access_log": False})


def wait_until_running(name: str, *, grows: bool, say: Callable[[str], None] | None = None) -> None:
    """Wait until an application that was deployed runs.

    Args:
        name: the application's name.
        grows: whether the cluster may get more resources. If not, a replica that lacks resources is an error.
        say: gets one line if a replica failed to start and Serve starts it again.

    Raises:
        GensegError: it cannot start.
    """
    from ray import serve

    while True:
        status = serve.status().applications.get(name)
        report = "" if status is None else _report(status)
        if status is not None and status.status == "RUNNING":
            return
        if status is not None and status.status in {"DEPLOY_FAILED", "UNHEALTHY"}:
            raise start_failure(report)
        lacking = None if grows else unplaced(report)
        if lacking is not None:
            raise InternalError(lacking)
        if say is not None and (notice := retry_notice(report)) is not None:
            say(notice)
            say = None
        time.sleep(POLL_S)


def retry_notice(report: str) -> str | None:
    """Find in Serve's report that a replica failed to start and is started again, which can go on for minutes.

    Returns:
        A line for the user, with the reason of the failure; None if no replica failed.
    """
    found = _RETRYING.search(report)
    if found is None or found[1] == "0":
        return None
    return f"a replica failed to start, and Ray tries again (tries left: {found[1]}): {_reason(report)}"


def lacking_room(
    config: AppConfig, document: Mapping[str, Any] | None, nodes: Sequence[Mapping[str, float]]
) -> str | None:
    """Check before anything is deployed whether the nodes have the resources for the replicas.

    Args:
        config: the application's configuration.
        document: the checked Serve config; None for a plain configuration file.
        nodes: each node's resources, by Ray's names.

    Returns:
        A line for the user that says what is lacking; None if nothing is, or if the file has no application of ours.
    """
    from serve_app.app import default_actor_options
    from serve_app.config.placement import needs_of, unplaceable
    from serve_app.config.serve_config import IMPORT_PATH

    applications = (document or {}).get("applications", [])
    ours = next((each for each in applications if each.get("import_path") == IMPORT_PATH), None)
    if document is not None and ours is None:
        return None
    options = default_actor_options(config, sum(node.get("GPU", 0) for node in nodes))
    return unplaceable(needs_of(ours, options), nodes)


def unplaced(report: str) -> str | None:
    """Find in Serve's report that a replica waits for resources that this machine lacks.

    Serve reports a replica that only starts slowly in the same words. So the needed and the free resources are
    compared.

    Returns:
        A line for the user, or None if no replica lacks resources.
    """
    for deployment, needed, left in _SLOW.findall(report):
        available = json.loads(left)
        if any(amount > available.get(resource, 0) for resource, amount in json.loads(needed).items()):
            return f"{deployment} asks for {needed} per replica, but this machine has only {left} left"
    return None


def start_failure(report: str) -> GensegError:
    """Return the error for a failed start. Serve's report is a remote traceback, which contains our error's line."""
    if (line := _our_line(report)) is not None:
        return CheckpointError(line)
    return InternalError(f"the application could not be started: {_reason(report)}")


def _our_line(report: str) -> str | None:
    for line in report.replace("\\n", "\n").splitlines():
        for marker in ("CheckpointError: ", "ConfigError: "):
            if marker in line:
                return line.split(marker, 1)[1].strip()
    return None


def _reason(report: str) -> str:
    lines = [line.strip() for line in report.splitlines() if line.strip()]
    return _our_line(report) or (lines[-1][:300] if lines else "no reason given")


def _report(status: ApplicationStatusOverview) -> str:
    return "\n".join([status.message, *(deployment.message for deployment in status.deployments.values())])
