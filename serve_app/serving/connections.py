"""Connect to public addresses only, to prevent server-side request forgery.

All IP addresses of a host name are checked, and the connection uses one of the checked addresses. The Host header and
the certificate are still those of the name. In this module, an address is always an IP address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpcore
import httpx

from serve_app.config.schema import FetchConfig
from serve_app.serving.addresses import is_public

Resolve = Callable[[str, int], Awaitable[list[str]]]

_MAX_ADDRESSES = 4
_RESOLVER_THREADS = 16


class NotPublic(Exception):
    """A host has an address that is not public, or no address."""


class NotResolved(Exception):
    """A host name does not resolve to an address: it does not exist, or no name server answers."""


class HostResolver:
    """Looks host names up by the operating system, in its own threads, so that slow lookups delay nothing else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVER_THREADS, "resolver")

    async def __call__(self, host: str, port: int) -> list[str]:
        """Look a host name up.

        Args:
            host: a name or an address, without brackets.
            port: 1 to 65535.

        Returns:
            Its distinct addresses, in the order in which to try them.

        Raises:
            OSError: the name cannot be resolved.
        """
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    def close(self) -> None:
        """End each thread after its current lookup; further lookups fail."""
        self._threads.shutdown(wait=False)


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to public addresses, and to any address of allowed hosts.

    Args:
        config: the allowed hosts, and the timeout for all addresses of a host together.
        resolve: looks host names up.
    """

    def __init__(self, config: FetchConfig, resolve: Resolve) -> None:
        self._allowed = frozenset(map(_allowed_entry, config.allowed_hosts))
        self._timeout_s = config.timeout_s
        self._resolve = resolve
        self._sockets = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of `host` that accepts.

        Raises:
            NotPublic: the host has no address, or an address that is neither public nor allowed.
            NotResolved: the host's name cannot be resolved.
            httpcore.ConnectError: no address accepts the connection.
            httpcore.ConnectTimeout: the last address did not accept in time.
        """
        del timeout  # each address gets a share of the configured timeout instead
        failure: httpcore.ConnectError | httpcore.ConnectTimeout = httpcore.ConnectError()
        addresses = (await self._checked_addresses(host, port))[:_MAX_ADDRESSES]
        share_s = self._timeout_s / max(1, len(addresses))  # so that a dead first address leaves time for the next
        for address in addresses:
            try:
                return await self._sockets.connect_tcp(address, port, share_s, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Refuse, because URLs do not lead to socket files."""
        del path, timeout, socket_options
        raise NotPublic

    async def sleep(self, seconds: float) -> None:
        """Wait for some seconds."""
        await asyncio.sleep(seconds)

    async def _checked_addresses(self, host: str, port: int) -> list[str]:
        addresses = [host]
        name = _comparable(host)
        if not _is_address(host):
            try:
                addresses = await self._resolve(host, port)
            except (OSError, UnicodeError):
                # Names under .localhost mean this machine, even if they do not resolve. Source: RFC 6761, section 6.3.
                raise (NotPublic if f".{name}".endswith(".localhost") else NotResolved) from None
        allowed = bool(self._allowed & {(name, None), (name, port)})
        if not addresses or not all(_is_address(each) and (allowed or is_public(each)) for each in addresses):
            raise NotPublic
        return addresses


def _allowed_entry(entry: str) -> tuple[str, int | None]:
    """Parse `host`, `host:port`, `[IPv6]:port` or a bare IPv6 address into host and port; no port means any."""
    host, colon, port = entry.rpartition(":")
    if _is_address(entry) or not (colon and port.isdigit()):
        return _comparable(entry), None
    return _comparable(host), int(port)


def _comparable(host: str) -> str:
    """Normalise a host for comparison: lower case, ASCII, no final dot, IPv6 in short form without brackets."""
    bare = host.removeprefix("[").removesuffix("]").removesuffix(".")
    if _is_address(bare):
        return str(ipaddress.ip_address(bare))
    try:
        return httpx.URL(f"http://{bare}").raw_host.decode("ascii")
    except (httpx.InvalidURL, ValueError):
        return bare


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
