"""Chooses and checks the address of a service, and writes it for the user."""

from __future__ import annotations

import errno
import socket

from serve_app.cli.options import MAX_PORT, CommandError
from serve_app.config.files import LoadedConfig

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
DASHBOARD_PORT = 8265
"""The port of Ray's dashboard. Source: ray start --help, --dashboard-port."""


def address(loaded: LoadedConfig, port: int | None) -> tuple[str, int]:
    """Return host and port: the port of the flag, else the values of the file, else the defaults."""
    options = (loaded.serve or {}).get("http_options") or {}
    return options.get("host", DEFAULT_HOST), port if port is not None else options.get("port", DEFAULT_PORT)


def choose_address(loaded: LoadedConfig, port: int | None, running: tuple[str, int] | None) -> tuple[str, int]:
    """Return the address of the running Serve, or the configured one if Serve does not run.

    Args:
        loaded: the configuration.
        port: the port of the flag; None without the flag.
        running: host and port of the joined cluster's Serve; None if it does not run.

    Raises:
        CommandError: the port is in use, or differs from the port of the running Serve.
    """
    if running is None:
        host, port = address(loaded, port)
        check_port(host, port)
        return host, port
    if port not in (None, running[1]):
        raise CommandError(f"--port {port}: Serve runs on this cluster already, on port {running[1]}", usage=True)
    return running


def check_port_number(port: int) -> None:
    """Check that a port is in the range of TCP ports.

    Raises:
        CommandError: the port is out of this range.
    """
    if not 1 <= port <= MAX_PORT:
        raise CommandError(f"port {port}: must be between 1 and {MAX_PORT}", usage=True)


def check_port(host: str, port: int) -> None:
    """Check that a port can be used, before anything is started.

    Raises:
        CommandError: the port is in use, or cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, UnicodeError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            reason = "is in use" if taken else f"cannot be used: {getattr(error, 'strerror', None) or error}"
            raise CommandError(f"port {port} on {host} {reason}; choose another with --port") from None


def addresses(loaded: LoadedConfig, host: str, port: int) -> list[str]:
    """Return a line for each application that says where it is served.

    Args:
        loaded: the configuration, which has the `route_prefix` of each application. `http_options.root_path` is the
            path at a proxy in front, and not part of Serve's own address.
        host: the host on which Serve listens.
        port: the port on which Serve listens.
    """
    document = loaded.serve or {}
    prefixes = [application.get("route_prefix", "/") for application in document.get("applications", [{}])]
    shown = f"[{host}]" if ":" in host else host
    urls = [f"http://{shown}:{port}{prefix.rstrip('/')}" for prefix in prefixes if prefix]
    return [f"serving on {url} (docs: {url}/docs); Ctrl-C stops" for url in urls] or ["serving; Ctrl-C stops"]


def address_of_serve() -> tuple[str, int] | None:
    """Return host and port of the joined cluster's Serve, which are fixed while it runs; None if it does not run."""
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        return None
    options = client.get_serve_details()["http_options"]
    return str(options["host"]), int(options["port"])
