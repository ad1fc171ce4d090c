"""Fetch images from URLs: follow redirects, limit size and time, and describe failures in one line.

`connections` makes every connection, also for redirects, and checks the IP address. Images are not decoded here.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import traceback
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import httpcore
import httpx

from serve_app.config.schema import FetchConfig
from serve_app.errors import FetchFailed, GensegError, InternalError, TooLarge
from serve_app.serving.connections import CheckedBackend, HostResolver, NotPublic, NotResolved, Resolve

logger = logging.getLogger("ray.serve")

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = (
    (b"Accept", b"image/*,*/*;q=0.5"),
    (b"Accept-Encoding", b"identity"),
    (b"User-Agent", b"genseg"),
)
_MAX_CONNECTIONS = 256
_KEEPALIVE_CONNECTIONS = 32
_KEEPALIVE_S = 10.0


class ImageFetcher:
    """Fetches images over http and https. Use it in one event loop only.

    Args:
        config: the allowed hosts, redirects and time.
        max_bytes: the largest body, also after decompression.
        resolve: looks host names up; a HostResolver by default.
        ssl_context: the certificate authorities to trust; certifi's by default.
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
        self._resolver = resolve or HostResolver()
        self._running = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Task[None] | None = None
        self._retired = False
        # A pool and not an httpx.AsyncClient, which keeps cookies and reads proxies and passwords from the environment.
        self._pool = httpcore.AsyncConnectionPool(
            # Made once, because reading the authorities takes tens of milliseconds.
            ssl_context=ssl_context or httpcore.default_ssl_context(),
            max_connections=_MAX_CONNECTIONS,
            max_keepalive_connections=_KEEPALIVE_CONNECTIONS,
            keepalive_expiry=_KEEPALIVE_S,
            network_backend=CheckedBackend(config, self._resolver),
        )

    async def fetch(self, url: str) -> bytes:
        """Fetch an image file.

        It takes at most `fetch.timeout_s` seconds, redirects included, and memory of twice `limits.max_image_bytes`,
        also for a compressed body. The images of a request are fetched at the same time.

        Args:
            url: http or https, without user name; any port.

        Returns:
            The body, at least one byte.

        Raises:
            FetchFailed: the URL is not allowed, or no usable response came in time. Of the URL, the message
                has only the host. It is the same for all IP addresses that are not public.
            TooLarge: the body is over the limit.
            InternalError: an unexpected error. The log has its class and its place in the code, but no part of the URL.
        """
        if not self._config.enabled:
            raise FetchFailed("this service does not fetch URLs; send the image itself")
        host = _parse(url).raw_host.decode("ascii")
        with self._counted(), _explained(host, self._config.timeout_s):
            async with asyncio.timeout(self._config.timeout_s):
                return await self._follow(url)

    async def aclose(self) -> None:
        """Close all connections, and end the resolver's threads."""
        if isinstance(self._resolver, HostResolver):
            self._resolver.close()
        await self._pool.aclose()

    def retire(self) -> None:
        """Close this fetcher when its last running fetch ends, because another fetcher replaces it."""
        self._retired = True
        if self._loop is None:  # this fetcher never fetched
            if isinstance(self._resolver, HostResolver):
                self._resolver.close()
        else:
            self._loop.call_soon_threadsafe(self._close_if_idle)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._loop = asyncio.get_running_loop()
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._retired and not self._running and self._closing is None:
            self._closing = asyncio.ensure_future(self.aclose())

    async def _follow(self, url: str) -> bytes:
        target = _parse(url)
        for hop in range(self._config.max_redirects + 1):
            try:
                answer = await self._get(target)
            except NotResolved:
                raise _BadAnswer(
                    f"{'redirects to a host that ' if hop else ''}does not resolve to an address"
                ) from None
            if isinstance(answer, bytes):
                return answer
            try:
                target = _parse(str(target.join(_ascii_location(answer))))
            except (FetchFailed, httpx.InvalidURL, ValueError):
                raise _BadAnswer("redirects to an address that is not allowed") from None
        raise _BadAnswer(f"redirects more than {self._config.max_redirects} times")

    async def _get(self, url: httpx.URL) -> bytes | str:
        """Make one request; return the body, or for a redirect the Location header, decoded as Latin-1."""
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


class _BadAnswer(Exception):
    """A host's response cannot be used; the message continues a sentence that begins with the host's name."""


class _Body:
    """Collects and decompresses a body up to a limit; needs memory for twice the limit."""

    def __init__(self, encoding: str, max_bytes: int) -> None:
        if encoding not in {"identity", "", "gzip", "x-gzip", "deflate"}:
            raise _BadAnswer("answered with a compression that was not requested")
        self._data = bytearray()
        self._max_bytes = max_bytes
        self._inflate = None if encoding in {"identity", ""} else zlib.decompressobj(zlib.MAX_WBITS | 32)

    def add(self, chunk: bytes) -> bool:
        """Append a chunk; return False if the body is now over the limit."""
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
        """Check the end of the body and return it."""
        if self._inflate is not None and not self._inflate.eof:
            raise _BadAnswer("answered with a broken compressed body")
        if not self._data:
            raise _BadAnswer("answered with an empty body")
        return bytes(self._data)


@contextmanager
def _explained(host: str, timeout_s: float) -> Iterator[None]:
    """Turn the error of a fetch into one line without a library's text, which may quote the URL.

    The line names `host`, the host of the URL, also if a host to which it redirects has failed.
    """
    try:
        yield
    except (TimeoutError, httpcore.TimeoutException):
        raise FetchFailed(f"{host} did not send the image within {timeout_s:g} s") from None
    except NotPublic:
        raise FetchFailed(f"{host} has an address that is not public, or redirects to such a host") from None
    except httpcore.ConnectError as error:
        why = "has no valid certificate" if _is_certificate_error(error) else "cannot be connected to"
        raise FetchFailed(f"{host} {why}") from None
    except _BadAnswer as error:
        raise FetchFailed(f"{host} {error}") from None
    except (httpcore.ProtocolError, httpcore.NetworkError, OSError):  # OSError: TLS fails within the body
        raise FetchFailed(f"{host} closed the connection too early, or does not speak HTTP") from None
    except GensegError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        logger.error("a fetch failed: %s at %s:%s", type(error).__name__, place.filename, place.lineno)
        raise InternalError("the image could not be fetched") from None


def _ascii_location(text: str) -> str:
    """Percent-encode the bytes of a Location header that are not ASCII, as browsers do, except in the host's name.

    Args:
        text: the header's bytes, decoded as Latin-1.

    Raises:
        UnicodeDecodeError: the host is not UTF-8, so it is not a valid address. The caller catches it as a ValueError.
    """
    host = re.match(r"(?:[a-zA-Z][a-zA-Z0-9+.-]*:)?//[^/?#]*", text)
    end = host.end() if host else 0
    return text[:end].encode("latin-1").decode() + re.sub(
        r"[^\x00-\x7f]", lambda each: f"%{ord(each[0]):02X}", text[end:]
    )


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


def _is_certificate_error(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
