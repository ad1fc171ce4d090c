"""Does a request come from a page of another site? Pure. Source: RFC 6454, Fetch Metadata Request Headers (W3C)."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers

_DEFAULT_PORTS = {"http": 80, "https": 443}


def foreign_origin(headers: Headers) -> str | None:
    """Tell whether a browser sends the request for a page of another origin.

    The page's own requests name the host that they go to. Behind a proxy that changes `Host`, either the proxy says the
    first one in `X-Forwarded-Host`, or the browser says `Sec-Fetch-Site: same-origin`. A page of another site can set
    neither: the first makes the browser ask for leave in advance, which is never given, the second belongs to the
    browser. Schemes are not compared, because TLS may end at the proxy.

    Args:
        headers: of the request.

    Returns:
        The foreign origin as the request names it; None where it names none, or its own.
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
