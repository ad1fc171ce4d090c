"""Where a service listens: the address is chosen, checked and said."""

from __future__ import annotations

import errno
import socket

from serve_app.cli.options import MAX_PORT, CommandError
from serve_app.config.files import LoadedConfig

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
DASHBOARD_PORT = 8265
"""Of Ray's dashboard. Source: ray start --help, --dashboard-port."""


def address(loaded: LoadedConfig, port: int | None) -> tuple[str, int]:
    """Host and port: the flag's, the file's, or the default."""
    options = (loaded.serve or {}).get("http_options") or {}
    return options.get("host", DEFAULT_HOST), port if port is not None else options.get("port", DEFAULT_PORT)


def choose_address(loaded: LoadedConfig, port: int | None, running: tuple[str, int] | None) -> tuple[str, int]:
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


def check_port_number(port: int) -> None:
    """Hold a configuration file's port against what ports there are.

    Raises:
        CommandError: there is no such port.
    """
    if not 1 <= port <= MAX_PORT:
        raise CommandError(f"port {port}: must be between 1 and {MAX_PORT}", usage=True)


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
        except (OSError, UnicodeError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            reason = "is in use" if taken else f"cannot be used: {getattr(error, 'strerror', None) or error}"
            raise CommandError(f"port {port} on {host} {reason}; choose another with --port") from None


def addresses(loaded: LoadedConfig, host: str, port: int) -> list[str]:
    """Say where the applications are served, each below its prefix.

    Args:
        loaded: its `route_prefix` of each application. `http_options.root_path` is a front proxy's, and no part of the
            address of Serve itself.
        host: where Serve listens.
        port: likewise.
    """
    document = loaded.serve or {}
    prefixes = [application.get("route_prefix", "/") for application in document.get("applications", [{}])]
    shown = f"[{host}]" if ":" in host else host
    places = [f"http://{shown}:{port}{prefix.rstrip('/')}" for prefix in prefixes if prefix]
    return [f"serving on {place} (docs: {place}/docs); Ctrl-C stops" for place in places] or ["serving; Ctrl-C stops"]


def address_of_serve() -> tuple[str, int] | None:
    """Where the joined cluster's Serve listens; None where none runs. Its address cannot be changed while it does."""
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        return None
    options = client.get_serve_details()["http_options"]
    return str(options["host"]), int(options["port"])
