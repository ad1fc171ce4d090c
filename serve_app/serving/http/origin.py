"""Detect requests from pages of other sites. Pure. Source: RFC 6454, Fetch Metadata Request Headers (W3C)."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers

_DEFAULT_PORTS = {"http": 80, "https": 443}


def foreign_origin(headers: Headers) -> str | None:
    """Return the origin of a request from a page of another site.

    The `Origin` of the service's own page names the same host as `Host`. If a proxy changes `Host`, either the proxy
    sends the original one in `X-Forwarded-Host`, or the browser sends `Sec-Fetch-Site: same-origin`. A page of another
    site can set neither. Before the first, the browser asks the service for permission (CORS preflight), which is
    never granted. Only the browser can set the second. Schemes are not compared, because TLS may end at the proxy.

    Args:
        headers: the request's headers.

    Returns:
        The foreign origin as the request names it; None if the request names no origin, or the service's own origin.

    >>> foreign_origin(Headers({"host": "localhost:8000", "origin": "https://evil.example"}))
    'https://evil.example'
    """
    origin = headers.get("origin")
    if origin is None or headers.get("sec-fetch-site") == "same-origin":
        return None
    host, port = _host_and_port(origin)
    forwarded = headers.get("x-forwarded-host", "").split(",")[0]
    for named in (headers.get("host", ""), forwarded):
        if host and _host_and_port(f"{origin.partition(':')[0]}://{named.strip()}") == (host, port):
            return None
    return origin


def _host_and_port(address: str) -> tuple[str | None, int | None]:
    try:
        parts = urlsplit(address)
        return parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None, None
