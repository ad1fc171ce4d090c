"""Image URLs -> bytes: redirects, limits of size and time, and one message for each failure.

Every connection, also that of a redirect, is made by `connections`, which checks its address. Knows no image formats.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib

import httpcore
import httpx

from serve_app.config.schema import FetchConfig
from serve_app.errors import FetchFailed, TooLarge
from serve_app.serving.connections import CheckedBackend, HostResolver, NotPublic, Resolve

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
            network_backend=CheckedBackend(config, resolve or HostResolver()),
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
        except NotPublic:
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
