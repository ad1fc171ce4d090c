"""HTTP requests as strangers send them, and a sender that sends each as it is written. The same ones every time.

Built from the API's documented limits and error codes, not from the service's source. Two of the bodies are over
64 MiB (one and the same bytes object); all others are small.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from tests.hostile.form_requests import form_cases
from tests.hostile.json_requests import json_cases
from tests.hostile.request_case import (
    ENTITIES,
    HUNG_UP,
    INVALID,
    JSON,
    MEDIA_TYPE,
    NO_HTTP,
    OK,
    SEGMENT,
    TOO_LARGE,
    Outcome,
    RequestCase,
    job,
    post,
)
from tests.hostile.url_requests import url_cases

__all__ = ["Reply", "RequestCase", "cases", "send", "wire"]

BODY = json.dumps(job()).encode()
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Reply:
    """What came back; `outcome` is what a case expects one of."""

    outcome: Outcome
    headers: dict[str, str]
    body: bytes


def cases() -> list[RequestCase]:
    """Make every case; the limits they are made for are the default ones."""
    made = [
        case
        for part in (json_cases, url_cases, form_cases, _media_types, _headers, _framing, _routes, _large)
        for case in part()
    ]
    assert len({case.name for case in made}) == len(made), "names are unique"
    return made


def wire(case: RequestCase, host: str) -> Iterator[bytes]:
    """Write the request's bytes, piece by piece.

    Args:
        case: the request.
        host: value of the Host header.
    """
    names = {name.lower() for name, _ in case.headers}
    headers = [*case.headers, ("Connection", "close")]
    if "host" not in names:
        headers.insert(0, ("Host", host))
    if case.chunked:
        headers.append(("Transfer-Encoding", "chunked"))
    elif not names & {"content-length", "transfer-encoding"} and (case.body or case.method != "GET"):
        headers.append(("Content-Length", str(len(case.body))))
    lines = [f"{case.method} {case.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    yield "\r\n".join(lines).encode("latin-1")
    for start in range(0, len(case.body), CHUNK_BYTES):
        piece = case.body[start : start + CHUNK_BYTES]
        yield b"%x\r\n%b\r\n" % (len(piece), piece) if case.chunked else piece
    if case.chunked:
        yield b"0\r\n\r\n"


def send(host: str, port: int, case: RequestCase, timeout_s: float = 60.0) -> Reply:
    """Send a request over a connection of its own and read the answer.

    Args:
        host: name or address of the service.
        port: its port.
        case: the request.
        timeout_s: how long the service may be silent.

    Raises:
        TimeoutError: it was.
    """
    with socket.create_connection((host, port), timeout=timeout_s) as connection:
        # A server that refuses early may close before all is sent; its answer counts all the same.
        with suppress(OSError):
            for piece in wire(case, f"{host}:{port}"):
                connection.sendall(piece)
            if _is_short(case):
                connection.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(connection, method=case.method)
        try:
            response.begin()
            body = response.read()
        except (http.client.HTTPException, ConnectionError):
            return Reply(HUNG_UP, {}, b"")
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Reply((response.status, _code(body)), headers, body)


def _is_short(case: RequestCase) -> bool:
    """Tell whether less is sent than announced, so that a server would wait for the rest."""
    announced = [value for name, value in case.headers if name.lower() == "content-length"]
    return any(value.isdigit() and int(value) > len(case.body) for value in announced)


def _code(body: bytes) -> str | None:
    try:
        document = json.loads(body)
    except ValueError:
        return None
    error = document.get("error") if isinstance(document, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else None


def _media_types() -> Iterator[RequestCase]:
    for kind, expected in {
        "text/plain": {MEDIA_TYPE},
        "text/json": {MEDIA_TYPE, OK},
        "application/xml": {MEDIA_TYPE},
        "application/octet-stream": {MEDIA_TYPE},
        "image/png": {MEDIA_TYPE},
        "application/jsonp": {MEDIA_TYPE},
        "json": {MEDIA_TYPE},
        "": {MEDIA_TYPE},
        ";": {MEDIA_TYPE},
        "/": {MEDIA_TYPE},
        "\xff\xfe": {MEDIA_TYPE},
        "x" * 10_000: {MEDIA_TYPE, NO_HTTP},
        "application/json, text/plain": {MEDIA_TYPE, OK},
        "application/x-ndjson": {MEDIA_TYPE},
        "application/problem+json": {MEDIA_TYPE, OK},
        "APPLICATION/JSON": {OK},
        "application/json; charset=utf-8": {OK},
        "application/json; charset=utf-16": {OK, INVALID, MEDIA_TYPE},
        "application/json; charset=klingon": {OK, INVALID, MEDIA_TYPE},
        "application/json;;;": {OK, MEDIA_TYPE},
    }.items():
        for path in (SEGMENT, ENTITIES):
            if path == ENTITIES and MEDIA_TYPE not in expected:
                continue
            body, right = (BODY, expected) if path == SEGMENT else (b'{"prompt": "A dog"}', expected)
            name = f"content type {ascii(kind)[:40]} at {path}"
            yield post(name, body, *right, path=path, headers=(("Content-Type", kind),))
    yield post("no content type", BODY, MEDIA_TYPE, headers=())
    yield post("no content type, no body", b"", MEDIA_TYPE, INVALID, headers=())
    twice = (*JSON, ("Content-Type", "text/plain"))
    yield post("two content types", BODY, OK, MEDIA_TYPE, INVALID, NO_HTTP, headers=twice)
    yield post("gzip announced, not done", BODY, OK, INVALID, MEDIA_TYPE, headers=(*JSON, ("Content-Encoding", "gzip")))


def _headers() -> Iterator[RequestCase]:
    for name, value, expected in (
        ("X-Request-ID", "x" * 10_000, {OK, INVALID, NO_HTTP}),
        ("X-Request-ID", "", {OK, INVALID}),
        ("X-Request-ID", " ", {OK, INVALID}),
        ("X-Request-ID", "\xc3\xbc", {OK, INVALID, NO_HTTP}),
        ("X-Request-ID", "\xfc\xff", {INVALID}),
        ("X-Request-ID", "<script>alert(1)</script>", {OK, INVALID}),
        ("X-Request-ID", '{"a": 1}', {OK, INVALID}),
        ("X-Request-ID", "a\tb", {OK, INVALID}),
        ("x-request-timeout-seconds", "0", {OK}),
        ("x-request-timeout-seconds", "-1", {OK, INVALID}),
        ("x-request-timeout-seconds", "nan", {OK, INVALID}),
        ("x-request-timeout-seconds", "soon", {OK, INVALID}),
        ("x-request-timeout-seconds", "1e308", {OK, INVALID}),
        ("x-request-disconnect-disabled", "?1", {OK}),
        ("Accept", "text/html", {OK, (406, "invalid_request")}),
        ("Accept", "", {OK}),
        ("Accept", "\xff;q=\xff", {OK}),
        ("Accept", "," * 5000, {OK, NO_HTTP}),
        ("Accept", "application/x-ndjson;q=0", {OK}),
        ("Accept-Encoding", "gzip;q=7, \xff", {OK}),
        ("Authorization", "Bearer " + "x" * 5000, {OK, NO_HTTP}),
        ("Authorization", "\xff", {OK}),
        ("Range", "bytes=0-1", {OK}),
        ("If-None-Match", "*", {OK}),
        ("Expect", "100-continue", {OK}),
        ("Upgrade", "websocket", {OK, INVALID, NO_HTTP}),
        ("X-HTTP-Method-Override", "DELETE", {OK}),
        ("X-Forwarded-For", "127.0.0.1", {OK}),
        ("X-Forwarded-Proto", "gopher", {OK}),
        ("Host", "evil.invalid", {OK}),
        ("serve_multiplexed_model_id", "x", {OK}),
        ("traceparent", "00-zz-zz-zz", {OK}),
    ):
        yield post(f"header {name}: {ascii(value)[:30]}", BODY, *expected, headers=(*JSON, (name, value)))
    many = tuple((f"X-{index}", "y") for index in range(90))
    yield post("90 more headers", BODY, OK, NO_HTTP, headers=(*JSON, *many))


def _framing() -> Iterator[RequestCase]:
    broken = {INVALID, NO_HTTP, HUNG_UP}
    for name, headers, body, expected in (
        ("Content-Length under the body's", (("Content-Length", "10"),), BODY, {INVALID}),
        ("Content-Length over the body's", (("Content-Length", str(len(BODY) + 9)),), BODY, broken),
        ("Content-Length of a terabyte", (("Content-Length", str(1 << 40)),), BODY, {TOO_LARGE, *broken}),
        ("Content-Length of 100 digits", (("Content-Length", "9" * 100),), BODY, {TOO_LARGE, *broken}),
        ("Content-Length negative", (("Content-Length", "-1"),), BODY, broken),
        ("Content-Length a word", (("Content-Length", "many"),), BODY, broken),
        ("Content-Length twice", (("Content-Length", "1"), ("Content-Length", str(len(BODY)))), BODY, broken),
        ("Content-Length zero", (("Content-Length", "0"),), b"", {INVALID}),
        ("chunk of a size that is none", (("Transfer-Encoding", "chunked"),), b"zz\r\n{}\r\n0\r\n\r\n", broken),
        ("chunk of negative size", (("Transfer-Encoding", "chunked"),), b"-1\r\n{}\r\n0\r\n\r\n", broken),
        ("coding that is none", (("Transfer-Encoding", "klingon"),), BODY, {(501, None), *broken}),
        ("header without a colon", (("\r\nnonsense\r\nX", "y"), ("Content-Length", "0")), b"", broken),
        ("header with a null", (("X-Null", "a\x00b"), ("Content-Length", str(len(BODY)))), BODY, {OK, *broken}),
    ):
        yield post(f"framing: {name}", body, *expected, headers=(*JSON, *headers))
    yield post("framing: chunked", BODY, OK, chunked=True)
    yield post("framing: chunked and empty", b"", INVALID, chunked=True)


def _routes() -> Iterator[RequestCase]:
    wrong_method = {(405, code) for code in ("invalid_request", "method_not_allowed")}
    not_found = {(404, code) for code in ("invalid_request", "not_found")}
    for path, methods in {
        SEGMENT: ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"),
        ENTITIES: ("GET", "PUT"),
        "/healthz": ("POST", "DELETE"),
        "/readyz": ("POST",),
        "/openapi.json": ("POST",),
        "/": ("POST", "DELETE"),
        "/page/main.js": ("POST",),
    }.items():
        for method in methods:
            body = BODY if method in {"PUT", "POST", "PATCH"} else b""
            yield RequestCase(f"{method} {path}", method, path, JSON, body, frozenset(wrong_method))
    # An answer to HEAD has no body, so no code.
    yield RequestCase("HEAD of a job", "HEAD", SEGMENT, (), b"", frozenset({(405, None)}))
    for method in ("BREW", "post"):
        expected = frozenset({*wrong_method, NO_HTTP, HUNG_UP, INVALID})
        yield RequestCase(f"method {method}", method, SEGMENT, JSON, BODY, expected)
    for path in (
        "/v1",
        "/v1/",
        "/v2/segment",
        "/v1/Segment",
        "/v1/segments",
        "/v1/segment.json",
        "/v1/segment/1",
        "/v1/../etc/passwd",
        "/v1/..%2f..%2fetc%2fpasswd",
        "/static/../../etc/passwd",
        "/%00",
        "/%ff%fe",
        "/v1/segment%00",
        "/\xff",
        "/" + "a" * 5000,
    ):
        expected_here = {*not_found, NO_HTTP} if path.isascii() is False or len(path) > 1000 else not_found
        yield post(f"route {ascii(path)[:40]}", BODY, *expected_here, path=path)
    slash = {*not_found, (307, None), (308, None), OK}
    yield post("route with a slash at its end", BODY, *slash, path=SEGMENT + "/")
    yield post("route with two slashes", BODY, *slash, path="/" + SEGMENT)
    yield post("query that looks like fields", BODY, OK, INVALID, path=SEGMENT + "?threshold=7&prompt=%ff")


def _large() -> Iterator[RequestCase]:
    big = b'{"prompt": "' + b"d" * (64 << 20) + b'"}'
    yield post("body over 64 MiB", big, TOO_LARGE)
    yield post("body over 64 MiB, in chunks", big, TOO_LARGE, chunked=True)
