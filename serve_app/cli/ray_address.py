"""Finds the Ray cluster to join (the named one, or one that runs on this machine), and checks that it answers.

The check is made because Ray itself tries for minutes to reach an address where nothing answers, and cannot be
interrupted meanwhile.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import PurePath

from serve_app.cli.options import MAX_PORT, CommandError

TIMEOUT_S = 5.0
PRIVATE_FOLDER = "genseg-"
"""Prefix of the folders of private Rays. They are not joined, because a private Ray ends with its command."""
_NO_PROXY = (("grpc.enable_http_proxy", 0),)


def find_cluster(address: str | None) -> str | None:
    """Find the cluster that a command should join.

    Args:
        address: HOST:PORT, `auto` or `local`; None for RAY_ADDRESS, or a cluster that runs on this machine.

    Returns:
        HOST:PORT of a head that answers; None for `local`, or if no cluster is named and none runs here.

    Raises:
        CommandError: a cluster is named, but it does not answer.
    """
    named = address or os.environ.get("RAY_ADDRESS") or None
    if named == "local":
        return None
    if named not in {None, "auto"}:
        check_reachable(str(named))
        return named
    for found in _running_here():
        try:
            check_reachable(found)
            return found
        except CommandError:
            continue
    if named:
        raise CommandError("Ray address auto: no Ray cluster runs on this machine")
    return None


def check_reachable(address: str) -> None:
    """Check that the head of a cluster answers.

    Raises:
        CommandError: the address is not HOST:PORT, or no Ray answers there.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in address:
        raise CommandError(f"Ray address {address}: must be HOST:PORT of the cluster's head, such as 127.0.0.1:6379")
    if not 0 < int(port) <= MAX_PORT:
        raise CommandError(f"Ray address {address}: the port must be from 1 to {MAX_PORT}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), TIMEOUT_S).close()
    except (OSError, UnicodeError) as error:
        raise CommandError(f"no Ray cluster at {address}: {error}") from None
    if os.environ.get("RAY_USE_TLS", "0") == "0" and not _speaks_grpc(address):
        raise CommandError(f"no Ray cluster at {address}: something else listens there")


def _speaks_grpc(address: str) -> bool:
    """Return whether a gRPC server answers, such as Ray's head; False for an HTTP server, and if nothing answers."""
    import grpc

    with grpc.insecure_channel(address, options=_NO_PROXY) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=TIMEOUT_S)
            return True
        except grpc.FutureTimeoutError:
            return False


def asks_for_token(address: str) -> bool:
    """Return whether a cluster's head refuses calls without a token. Ray's own exception does not always say so.

    Args:
        address: HOST:PORT of a head that answers.
    """
    import grpc

    with grpc.insecure_channel(address, options=_NO_PROXY) as channel:
        # An empty message is empty in every version of the protocol. Source: ray's gcs_service.proto
        call = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")
        try:
            call(b"", timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.UNAUTHENTICATED
    return False


def _running_here() -> Iterator[str]:
    """Yield the heads of clusters on this machine, first the one that `ray start` recorded. Some may have ended."""
    from ray._private.utils import read_ray_address  # first: Ray brings its own psutil and puts it on the path
    import psutil  # isort: skip

    recorded = read_ray_address()
    seen = {recorded: None} if recorded else {}
    for process in psutil.process_iter(["cmdline"]):
        flags = dict(each.partition("=")[::2] for each in process.info["cmdline"] or () if each.startswith("--"))
        head, folder = flags.get("--gcs-address"), flags.get("--temp_dir") or flags.get("--temp-dir") or ""
        if head and folder and not PurePath(folder).name.startswith(PRIVATE_FOLDER):
            seen.setdefault(head)
    yield from seen
