"""Holds what the sync and the async client share: the service's address, the token, and timeouts."""

from __future__ import annotations

import ssl

import httpx

from serve_app.client.exchange import MAX_TIMEOUT_S, Call
from serve_app.errors import ConfigError

DEFAULT_URL = "http://127.0.0.1:8000"
# Servers drop idle connections after 5 s (uvicorn's default). A connection that is reused at that moment would break.
LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=2.0)
# These hosts are called without a proxy: a proxy from the environment cannot reach the caller's own machine.
LOOPBACK = ("all://localhost", "all://127.0.0.1", "all://[::1]")
PROBE_TIMEOUT_S = 5.0


class BaseClient:
    """The service's address, the token, the timeout and the number of retries; see Client for the arguments."""

    def __init__(self, base_url: str, token: str | None, timeout_s: float, max_retries: int) -> None:
        self._url, userinfo = read_base_url(base_url)
        if token is not None and not (token and token.isascii() and token.isprintable()):
            raise ConfigError("token: must be printable ASCII characters")  # the message must not show the token
        if not 0 < timeout_s <= MAX_TIMEOUT_S:
            raise ConfigError(f"timeout_s: must be above 0 and at most {MAX_TIMEOUT_S:g} seconds, not {timeout_s}")
        self._auth = userinfo if token is None else None
        self._headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._timeout_s = timeout_s
        self._max_retries = max_retries

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._url!r})"

    def _trust(self) -> ssl.SSLContext | bool:
        # Reading the certificate authorities takes 40 ms. Plain HTTP needs none, and redirects to HTTPS
        # are not followed. So the SSL context for plain HTTP has no authorities.
        return True if self._url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def _probe(self, path: str) -> Call:
        timeout_s = min(PROBE_TIMEOUT_S, self._timeout_s)
        return Call("GET", self._url + path, timeout_s, expected=frozenset({200, 503}))


def read_base_url(base_url: str) -> tuple[str, tuple[str, str] | None]:
    """Check the service's address.

    Returns:
        The address without user name, password, query and final slash; and the pair of user name and password, or
            None if the address has none.

    Raises:
        ConfigError: it is not a valid http(s) address.

    >>> read_base_url("http://me:secret@127.0.0.1:8000/api/")
    ('http://127.0.0.1:8000/api', ('me', 'secret'))
    """
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError) as error:
        raise ConfigError(f"base_url: {error}") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigError(f"base_url: {url.copy_with(userinfo=b'')} is not a valid http:// or https:// address")
    path = url.raw_path.split(b"?")[0].decode("ascii").rstrip("/")
    userinfo = (url.username, url.password) if url.userinfo else None
    return f"{url.scheme}://{url.netloc.decode('ascii')}{path}", userinfo
