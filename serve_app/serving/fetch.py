"""Image URLs -> bytes, without lending strangers this machine's place in the network.

Every hop's host is resolved, every resolved address checked, and the connection made to the address that was checked,
at the one place where connections are made; the name still decides the Host header and the certificate. Knows no image
formats.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import zlib
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpcore
import httpx

from serve_app.config.schema import FetchConfig
from serve_app.errors import FetchFailed, TooLarge
from serve_app.serving.addresses import is_public

Resolve = Callable[[str, int], Awaitable[list[str]]]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = (
    (b"Accept", b"image/*,*/*;q=0.5"),
    (b"Accept-Encoding", b"identity"),
    (b"User-Agent", b"genseg"),
)
_MAX_ADDRESSES = 4
_RESOLVER_THREADS = 16
_MAX_CONNECTIONS = 256
_KEEPALIVE_CONNECTIONS = 32
_KEEPALIVE_S = 10.0


class HostResolver:
    """Looks names up as the operating system does, in threads of its own: a slow name server holds up no other work."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVER_THREADS, "resolver")

    async def __call__(self, host: str, port: int) -> list[str]:
        """Look a name up.

        Args:
            host: a name or an address, without brackets.
            port: 1 to 65535.

        Returns:
            Its addresses, in the order in which to try them, without repeats.

        Raises:
            OSError: there is no such name.
        """
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class ImageFetcher:
    """Fetches images over http and https; belongs to the event loop in which it first fetches.

    Args:
        config: what is allowed, and for how long.
        max_bytes: the largest body, also after decompression.
        resolve: looks host names up; a HostResolver by default.
        ssl_context: whom https trusts; the default is certifi's authorities.
    """

    def __init__(
        self,
        config: FetchConfig,
        max_bytes: int,
        *,
        resolve: Resolve | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._config = config
        self._max_bytes = max_bytes
        # No client on top: cookies, proxies and credentials from the environment, and redirects that nobody checked
        # are what one would have to switch off again.
        self._pool = httpcore.AsyncConnectionPool(
            # Made once: reading the authorities takes tens of milliseconds.
            ssl_context=ssl_context or httpcore.default_ssl_context(),
            max_connections=_MAX_CONNECTIONS,
            max_keepalive_connections=_KEEPALIVE_CONNECTIONS,
            keepalive_expiry=_KEEPALIVE_S,
            network_backend=_CheckedBackend(config, resolve or HostResolver()),
        )

    async def fetch(self, url: str) -> bytes:
        """Fetch an image file.

        Bounds: `fetch.timeout_s` in all, redirects included; memory of `limits.max_image_bytes` and one chunk, also
        where the body is compressed. A request's images are fetched at the same time, so it may hold
        `limits.max_images` * `limits.max_image_bytes`.

        Args:
            url: http or https, without user name; any port.

        Returns:
            The body, at least one byte.

        Raises:
            FetchFailed: the URL is not allowed, or nothing usable came back in time. The message names the host of
                `url` only, and is the same for every address that is not public and for names that do not exist.
            TooLarge: the body is over the limit.
        """
        if not self._config.enabled:
            raise FetchFailed("URLs are not fetched here: send the image itself")
        host = _parse(url).raw_host.decode("ascii")
        try:
            async with asyncio.timeout(self._config.timeout_s):
                return await self._follow(url)
        except (TimeoutError, httpcore.TimeoutException):
            raise FetchFailed(f"{host} did not send the image within {self._config.timeout_s:g} s") from None
        except _NotPublic:
            raise FetchFailed(f"{host} has, or redirects to, no public address") from None
        except httpcore.ConnectError as error:
            why = "has no valid certificate" if _is_certificate_error(error) else "cannot be connected to"
            raise FetchFailed(f"{host} {why}") from None
        except _BadAnswer as error:
            raise FetchFailed(f"{host} {error}") from None
        except (httpcore.ProtocolError, httpcore.NetworkError, OSError):  # OSError: TLS that breaks in mid-body
            raise FetchFailed(f"{host} broke off, or does not speak HTTP") from None

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()

    async def _follow(self, url: str) -> bytes:
        target = _parse(url)
        for _ in range(self._config.max_redirects + 1):
            answer = await self._get(target)
            if isinstance(answer, bytes):
                return answer
            try:
                target = _parse(str(target.join(answer)))
            except (FetchFailed, httpx.InvalidURL, ValueError):
                raise _BadAnswer("redirects to an address that is not allowed") from None
        raise _BadAnswer(f"redirects more than {self._config.max_redirects} times")

    async def _get(self, url: httpx.URL) -> bytes | str:
        """Make one request: the body, or where it redirects to."""
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        async with self._pool.stream("GET", target, headers=[(b"Host", url.netloc), *_HEADERS]) as response:
            headers = {name.lower(): value.decode("latin-1").strip() for name, value in response.headers}
            if response.status in _REDIRECTS and headers.get(b"location"):
                return headers[b"location"]
            if response.status != 200:
                raise _BadAnswer(f"answered with status {response.status}")
            if int(headers.get(b"content-length", "0")) > self._max_bytes:
                raise self._too_large()
            body = _Body(headers.get(b"content-encoding", "identity").lower(), self._max_bytes)
            async for chunk in response.aiter_stream():
                if not body.add(chunk):
                    raise self._too_large()
            return body.finish()

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the fetched file is over the limit of {self._max_bytes} bytes")


class _NotPublic(Exception):
    """A host has an address that is not public, or none."""


class _BadAnswer(Exception):
    """What a host answered is no image; its message follows the host's name."""


class _Body:
    """A body that grows to a limit, decompressed as it comes; never more than one chunk over the limit in memory."""

    def __init__(self, encoding: str, max_bytes: int) -> None:
        if encoding not in {"identity", "", "gzip", "x-gzip", "deflate"}:
            raise _BadAnswer("answered with a compression that was not asked for")
        self._data = bytearray()
        self._max_bytes = max_bytes
        self._inflate = None if encoding in {"identity", ""} else zlib.decompressobj(zlib.MAX_WBITS | 32)

    def add(self, chunk: bytes) -> bool:
        """Append; False once the body is over the limit."""
        if self._inflate is not None:
            if self._inflate.eof:
                raise _BadAnswer("answered with a broken compressed body")
            try:
                chunk = self._inflate.decompress(chunk, self._max_bytes + 1 - len(self._data))
            except zlib.error:
                raise _BadAnswer("answered with a broken compressed body") from None
        self._data += chunk
        return len(self._data) <= self._max_bytes

    def finish(self) -> bytes:
        """Return the whole body."""
        if self._inflate is not None and not self._inflate.eof:
            raise _BadAnswer("answered with a broken compressed body")
        if not self._data:
            raise _BadAnswer("answered with an empty body")
        return bytes(self._data)


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to public addresses, and to those of allowed hosts."""

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
        """Connect to the first address of `host` that accepts, all of them having been checked."""
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
        """Refuse: no URL names a socket file."""
        raise _NotPublic

    async def sleep(self, seconds: float) -> None:
        """Wait, between tries."""
        await asyncio.sleep(seconds)

    async def _checked_addresses(self, host: str, port: int) -> list[str]:
        addresses = [host]
        if not _is_address(host):
            try:
                addresses = await self._resolve(host, port)
            except (OSError, UnicodeError):
                raise _NotPublic from None
        name = _comparable(host)
        allowed = bool(self._allowed & {(name, None), (name, port)})
        if not addresses or not all(_is_address(each) and (allowed or is_public(each)) for each in addresses):
            raise _NotPublic
        return addresses


def _parse(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):
        raise FetchFailed("not a URL that can be fetched") from None
    if url.scheme not in {"http", "https"} or not url.raw_host:
        raise FetchFailed("only http and https URLs are fetched")
    if url.port is not None and not 0 < url.port < 65536:
        raise FetchFailed("not a URL that can be fetched")
    if url.userinfo:
        raise FetchFailed("URLs with a user name are not fetched")
    return url


def _allowed_entry(entry: str) -> tuple[str, int | None]:
    """Read `host`, `host:port`, `[IPv6]:port` or a bare IPv6 address."""
    host, colon, port = entry.rpartition(":")
    if _is_address(entry) or not (colon and port.isdigit()):
        return _comparable(entry), None
    return _comparable(host), int(port)


def _comparable(host: str) -> str:
    """Write a host the one way it is compared: lower case, ASCII, no final dot, IPv6 short and without brackets."""
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


def _is_certificate_error(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
