"""`genseg serve`: checks the configuration, then serves the HTTP API as Ray's `serve run` does."""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING

from serve_app.cli import ray_session
from serve_app.cli.console import Progress
from serve_app.cli.deploy import (
    file_for_own_ray,
    find_checkpoints,
    hand_over,
    lacking_room,
    wait_until_running,
    without_access_log,
)
from serve_app.cli.options import CommandError, port_number
from serve_app.cli.serve_address import (
    DEFAULT_PORT,
    address,
    address_of_serve,
    addresses,
    check_port_number,
    choose_address,
)
from serve_app.cli.serve_end import ServeEnd
from serve_app.cli.start_lock import one_at_a_time
from serve_app.cli.tracing import set_tracing
from serve_app.config.files import LoadedConfig, check_environment, load_file
from serve_app.config.schema import AppConfig
from serve_app.errors import ConfigError

if TYPE_CHECKING:
    from ray.serve.schema import ServeDeploySchema

GUARD = "serve_app.serving.http.proxy_guard.middlewares"
"""Import path of a function that Ray's HTTP proxy calls when it starts; see the function's module."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "config",
        nargs="?",
        metavar="CONFIG",
        help="Serve config or configuration file (YAML). Default: the embedded models.",
    )
    parser.add_argument(
        "--port",
        type=port_number,
        metavar="PORT",
        help=f"Port of the HTTP API. Default: the file's, or {DEFAULT_PORT}.",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM; then finish the requests under way, and stop. A second signal stops at once.

    Raises:
        GensegError, CommandError: with one line for the user.
    """
    progress = Progress()
    try:
        return _serve(args, progress)
    except KeyboardInterrupt:
        progress.say("stopped")
        return 0


def _serve(args: argparse.Namespace, progress: Progress) -> int:
    # First, because checking a Serve config imports Ray, which then reads some of these variables.
    ray_session.set_environment(RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=GUARD, **ray_session.OUR_LINES_ONLY)
    loaded = load_file(args.config) if args.config else LoadedConfig(AppConfig(), None)
    check_port_number(address(loaded, args.port)[1])
    set_tracing(loaded)
    stop = ServeEnd(progress, loaded.app.serving.max_timeout_s)
    try:
        # Locked until Serve knows the applications. The next `genseg serve` then joins this Ray and sees their names.
        with one_at_a_time(progress):
            names, host, port = _start(args, loaded, stop, progress)
        with progress.step("loading models"):
            for name in names:
                wait_until_running(name, grows=stop.joined, say=progress.say)
        stop.serves = names
        for line in addresses(loaded, host, port):
            progress.say(line)
        while True:
            time.sleep(1)
    finally:
        stop()


def _start(
    args: argparse.Namespace, loaded: LoadedConfig, stop: ServeEnd, progress: Progress
) -> tuple[list[str], str, int]:
    """Join or start Ray, and deploy the applications without waiting for them.

    Returns:
        The applications' names, and the host and port where they are served.
    """
    joined = ray_session.join(None, progress, logs=True)
    stop.joined = joined
    names = application_names(loaded)
    running = address_of_serve() if joined else None
    _refuse_to_replace(names, running)
    host, port = choose_address(loaded, args.port, running)
    if not joined:  # the replicas will run here, with this environment
        _refuse_unset_variables(args.config)
        find_checkpoints(loaded.app)
    _check_resources(loaded, progress, joined=joined)
    if not joined:
        with progress.step("starting Ray"):
            ray_session.start(logs=True)
    stop.deployed, stop.leaves_serve = names, running is not None
    _deploy(loaded if joined else file_for_own_ray(loaded), host, port)
    return names, host, port


def _refuse_unset_variables(config: str | None) -> None:
    problems = check_environment(config, os.environ) if config else []
    if problems:
        raise ConfigError("\n".join(problem.at(str(config)) for problem in problems))


def application_names(loaded: LoadedConfig) -> list[str]:
    """Return the names of the applications to deploy."""
    from serve_app.app import APP_NAME

    if loaded.serve is None:
        return [APP_NAME]
    return [application.get("name", "default") for application in loaded.serve["applications"]]


def _deploy(loaded: LoadedConfig, host: str, port: int) -> None:
    """Start Serve, and deploy the applications. Does not wait until they run."""
    from ray import serve
    from ray.serve.schema import ServeDeploySchema

    from serve_app.app import APP_NAME, bind

    if loaded.serve is None:
        serve.start(http_options={"host": host, "port": port}, logging_config=without_access_log(None))
        hand_over(bind(loaded.app), APP_NAME, route_prefix="/")
    else:
        _deploy_file(ServeDeploySchema.model_validate(loaded.serve), host, port)


def _deploy_file(schema: ServeDeploySchema, host: str, port: int) -> None:
    # What `serve run FILE` does (ray.serve.scripts.run), copied because there is no public function for it.
    from ray.serve._private import api

    client = api.serve_start(
        http_options={**schema.http_options.model_dump(), "host": host, "port": port},
        proxy_location=schema.proxy_location,
        global_logging_config=without_access_log(schema.logging_config),
    )
    for application in schema.applications:
        application.logging_config = without_access_log(application.logging_config)
    client.deploy_apps(schema, _blocking=False)


def _refuse_to_replace(names: list[str], running: tuple[str, int] | None) -> None:
    """Refuse to replace an application that another command deployed, because it would end when this command stops.

    Raises:
        CommandError: the joined cluster already serves an application with one of the names.
    """
    from ray import serve

    taken = sorted({*names} & {*serve.status().applications}) if running else []
    if running and taken:
        url = f"http://{running[0]}:{running[1]}"
        raise CommandError(f"{taken[0]!r} is served on this cluster already, at {url}; `serve deploy` updates it")


def _check_resources(loaded: LoadedConfig, progress: Progress, *, joined: bool) -> None:
    """Report resources that the replicas need and that Ray does not have.

    On a joined cluster this is not an error, because the cluster may get more nodes.

    Raises:
        CommandError: this machine lacks them.
    """
    nodes = ray_session.resources_of_nodes() if joined else [ray_session.resources_of_this_machine()]
    lacking = lacking_room(loaded.app, loaded.serve, nodes)
    if lacking is not None and not joined:
        raise CommandError(lacking)
    if lacking is not None:
        progress.say(f"waiting for more nodes: {lacking}")
