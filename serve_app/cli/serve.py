"""`genseg serve`: what `serve run` does, with the configuration checked first."""

from __future__ import annotations

import argparse
import errno
import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from serve_app.cli import ray_session
from serve_app.cli.console import Progress
from serve_app.cli.deploy import find_checkpoints, lacking_room, run_application, wait_until_running
from serve_app.cli.options import CommandError
from serve_app.cli.signals import finish_undisturbed
from serve_app.config.files import LoadedConfig, check_environment, load_file
from serve_app.config.schema import AppConfig
from serve_app.errors import ConfigError

if TYPE_CHECKING:
    from ray.serve.schema import ServeDeploySchema

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
DRAIN_CALL_S = 10.0
GUARD = "serve_app.serving.http.proxy_guard.middlewares"
"""What Ray's HTTP proxy calls when it starts, see the module."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="Serve config, or a file of our own schema")
    parser.add_argument("--port", type=int, help=f"port (default: the file's, or {DEFAULT_PORT})")


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM; then finish the requests under way, and stop. A second signal stops at once.

    Raises:
        GensegError, CommandError: one line for the user.
    """
    progress = Progress()
    try:
        return _serve(args, progress)
    except KeyboardInterrupt:
        progress.say("stopped")
        return 0


def _serve(args: argparse.Namespace, progress: Progress) -> int:
    loaded = load_file(args.config) if args.config else LoadedConfig(AppConfig(), None)
    ray_session.set_environment(RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=GUARD)
    from ray import serve

    names = application_names(loaded)
    joined = _join(progress)
    running = _address_of_serve() if joined else None
    _refuse_to_replace(names, running)
    host, port = _choose_address(loaded, args.port, running)
    if not joined:  # the replicas will run here, with this environment
        _refuse_unset_variables(args.config)
        find_checkpoints(loaded.app)
    _check_room(loaded, progress, joined=joined)
    up = stopped_at_once = False
    try:
        if not joined:
            with progress.step("starting Ray"):
                ray_session.start(logs=True)
        with progress.step("loading models"):
            _deploy(loaded, host, port, grows=joined)
        up = True
        progress.say(f"serving on http://{host}:{port} (docs: http://{host}:{port}/docs); Ctrl-C stops")
        while True:
            time.sleep(1)
    finally:
        try:
            if up:
                _finish_requests(names, loaded.app.serving.max_timeout_s, progress)
        except KeyboardInterrupt:
            stopped_at_once = True
            progress.say("stopping at once")
        finally:
            finish_undisturbed()
            with suppress(Exception):
                if running is not None:
                    for name in names:
                        serve.delete(name, _blocking=not stopped_at_once)
                elif joined or (up and not stopped_at_once):
                    serve.shutdown()
            ray_session.leave()  # of a private Ray it ends every process, also those that never came up


def _refuse_unset_variables(config: str | None) -> None:
    problems = check_environment(config, os.environ) if config else []
    if problems:
        raise ConfigError("\n".join(problem.at(str(config)) for problem in problems))


def _finish_requests(names: list[str], timeout_s: float, progress: Progress) -> None:
    """Make the ingresses refuse new requests, and wait until those under way are answered."""
    progress.say("stopping: requests under way are finished first; a second Ctrl-C or SIGTERM stops at once")
    deadline = time.monotonic() + timeout_s
    for name in names:
        with suppress(Exception):  # an application of others, or one that is gone
            while time.monotonic() < deadline and not _is_drained(name):
                time.sleep(0.1)


def _is_drained(name: str) -> bool:
    """Tell every ingress replica to refuse new requests; True once all were told and none has a request left."""
    from ray import serve

    states = serve.status().applications[name].deployments["Ingress"].replica_states
    replicas = sum(count for state, count in states.items() if state == "RUNNING")
    handle = serve.get_app_handle(name)
    # Ray chooses the replica of a call: after a few times as many calls as there are replicas, all have had one.
    calls = [handle.drain.remote() for _ in range(4 * replicas)]
    under_way = dict(call.result(timeout_s=DRAIN_CALL_S) for call in calls)
    return len(under_way) >= replicas and not any(under_way.values())


def address(loaded: LoadedConfig, port: int | None) -> tuple[str, int]:
    """Host and port: the flag's, the file's, or the default."""
    options = (loaded.serve or {}).get("http_options") or {}
    return options.get("host", DEFAULT_HOST), port if port is not None else options.get("port", DEFAULT_PORT)


def _choose_address(loaded: LoadedConfig, port: int | None, running: tuple[str, int] | None) -> tuple[str, int]:
    """Take the address of the cluster's running Serve, or a free one.

    Raises:
        CommandError: the port is taken, or is not the running Serve's.
    """
    if running is None:
        host, port = address(loaded, port)
        check_port(host, port)
        return host, port
    if port not in (None, running[1]):
        raise CommandError(f"--port {port}: Serve runs on this cluster already, on port {running[1]}", usage=True)
    return running


def check_port(host: str, port: int) -> None:
    """Find a busy port before anything is started.

    Raises:
        CommandError: it is taken, or may not be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OverflowError:
            raise CommandError(f"port {port}: must be between 0 and 65535", usage=True) from None
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
            raise CommandError(f"port {port} on {host} {reason}; choose another with --port") from None


def application_names(loaded: LoadedConfig) -> list[str]:
    """Names of the applications that will be deployed."""
    from serve_app.app import APP_NAME

    if loaded.serve is None:
        return [APP_NAME]
    return [application.get("name", "default") for application in loaded.serve["applications"]]


def _join(progress: Progress) -> bool:
    """Join a Ray cluster that runs on this machine or is named by RAY_ADDRESS.

    Returns:
        True if there is one: it stays when we go.
    """
    try:
        ray_session.join("auto", progress, logs=True)
        return True
    except ConnectionError:
        return False


def _address_of_serve() -> tuple[str, int] | None:
    """Where the joined cluster's Serve listens; None where none runs. Its address cannot be changed while it does."""
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        return None
    options = client.get_serve_details()["http_options"]
    return str(options["host"]), int(options["port"])


def _refuse_to_replace(names: list[str], running: tuple[str, int] | None) -> None:
    """An application of another command goes with that command: taking it over would end it when this one stops.

    Raises:
        CommandError: the joined cluster serves one of that name.
    """
    from ray import serve

    taken = sorted({*names} & {*serve.status().applications}) if running else []
    if running and taken:
        place = f"http://{running[0]}:{running[1]}"
        raise CommandError(f"{taken[0]!r} is served on this cluster already, at {place}; `serve deploy` updates it")


def _check_room(loaded: LoadedConfig, progress: Progress, *, joined: bool) -> None:
    """Name replicas that find no room: an error on a machine of one's own; a cluster may get more nodes.

    Raises:
        CommandError: nothing will ever hold them.
    """
    nodes = ray_session.resources_of_nodes() if joined else [ray_session.resources_of_this_machine()]
    lacking = lacking_room(loaded.app, loaded.serve, nodes)
    if lacking is not None and not joined:
        raise CommandError(lacking)
    if lacking is not None:
        progress.say(f"waiting for more nodes: {lacking}")


def _deploy(loaded: LoadedConfig, host: str, port: int, *, grows: bool) -> None:
    """Deploy and wait until everything runs."""
    from ray import serve
    from ray.serve.schema import ServeDeploySchema

    from serve_app.app import APP_NAME, bind

    if loaded.serve is None:
        serve.start(http_options={"host": host, "port": port})
        run_application(bind(loaded.app), APP_NAME, route_prefix="/", grows=grows)
    else:
        _deploy_file(ServeDeploySchema.model_validate(loaded.serve), host, port, grows=grows)


def _deploy_file(schema: ServeDeploySchema, host: str, port: int, *, grows: bool) -> None:
    # What `serve run FILE` does, in its own words (ray.serve.scripts.run): there is no public function for it.
    from ray.serve._private import api

    client = api.serve_start(
        http_options={**schema.http_options.model_dump(), "host": host, "port": port},
        proxy_location=schema.proxy_location,
    )
    client.deploy_apps(schema, _blocking=False)
    for application in schema.applications:
        wait_until_running(application.name, grows=grows)
