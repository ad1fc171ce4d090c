"""Image URLs -> bytes: redirects, limits of size and time, and one message for each failure.

Every connection, also that of a redirect, is made by `connections`, which checks its address. Knows no image formats.
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
        self._resolver = resolve or HostResolver()
        self._under_way = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Task[None] | None = None
        self._retired = False
        # No client on top: cookies, proxies and credentials from the environment, and redirects that nobody checked
        # are what one would have to switch off again.
        self._pool = httpcore.AsyncConnectionPool(
            # Made once: reading the authorities takes tens of milliseconds.
            ssl_context=ssl_context or httpcore.default_ssl_context(),
            max_connections=_MAX_CONNECTIONS,
            max_keepalive_connections=_KEEPALIVE_CONNECTIONS,
            keepalive_expiry=_KEEPALIVE_S,
            network_backend=CheckedBackend(config, self._resolver),
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
                `url` only, and is the same for every address that is not public.
            TooLarge: the body is over the limit.
            InternalError: nobody foresaw what happened; the log has its kind and place, and nothing of the URL.
        """
        if not self._config.enabled:
            raise FetchFailed("URLs are not fetched here: send the image itself")
        host = _parse(url).raw_host.decode("ascii")
        with self._counted(), _explained(host, self._config.timeout_s):
            async with asyncio.timeout(self._config.timeout_s):
                return await self._follow(url)

    async def aclose(self) -> None:
        """Close every connection, and end the threads."""
        if isinstance(self._resolver, HostResolver):
            self._resolver.close()
        await self._pool.aclose()

    def retire(self) -> None:
        """Close as soon as no fetch is under way any more: another fetcher takes this one's place."""
        self._retired = True
        if self._loop is None:  # it never fetched
            if isinstance(self._resolver, HostResolver):
                self._resolver.close()
        else:
            self._loop.call_soon_threadsafe(self._close_where_idle)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._loop = asyncio.get_running_loop()
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            self._close_where_idle()

    def _close_where_idle(self) -> None:
        if self._retired and not self._under_way and self._closing is None:
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
        """Make one request: the body, or where it redirects to, its bytes as Latin-1."""
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


@contextmanager
def _explained(host: str, timeout_s: float) -> Iterator[None]:
    """Turn whatever ends a fetch into one line about `host`. No text of a library goes further: it may quote a URL."""
    try:
        yield
    except (TimeoutError, httpcore.TimeoutException):
        raise FetchFailed(f"{host} did not send the image within {timeout_s:g} s") from None
    except NotPublic:
        raise FetchFailed(f"{host} has, or redirects to, no public address") from None
    except httpcore.ConnectError as error:
        why = "has no valid certificate" if _is_certificate_error(error) else "cannot be connected to"
        raise FetchFailed(f"{host} {why}") from None
    except _BadAnswer as error:
        raise FetchFailed(f"{host} {error}") from None
    except (httpcore.ProtocolError, httpcore.NetworkError, OSError):  # OSError: TLS that breaks in mid-body
        raise FetchFailed(f"{host} broke off, or does not speak HTTP") from None
    except GensegError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        logger.error("a fetch failed: %s at %s:%s", type(error).__name__, place.filename, place.lineno)
        raise InternalError("the image could not be fetched") from None


def _ascii_location(text: str) -> str:
    """Write a Location's bytes that are not ASCII as percent codes, as browsers ask for them; a host as its name.

    Args:
        text: the header's bytes as Latin-1.
    """
    host = re.match(r"(?:[a-zA-Z][a-zA-Z0-9+.-]*:)?//[^/?#]*", text)
    end = host.end() if host else 0
    # A host that is not UTF-8 is a UnicodeDecodeError, and so a ValueError: it is no address.
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
