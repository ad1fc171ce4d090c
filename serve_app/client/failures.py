"""The client's errors: the server's errors, in the same classes as on the server, and two of the client's own.

    GensegError
    ├── every class of `errors` that has a code on the wire
    ├── ConnectionFailed        no server answers, or the connection broke before the answer was complete
    └── InvalidAnswer           not an answer of this service: a proxy's page, a redirect, a wrong document or mask

The last two are defined here because no server sends them. Pure: takes status, headers and bytes,
and returns an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import ValidationError

from serve_app import errors
from serve_app.schemas.documents import ErrorBody, ErrorDocument
from serve_app.schemas.retry_after import read_retry_after

EXCERPT_CHARS = 80

BY_CODE: Mapping[str, type[errors.GensegError]] = {
    kind.code: kind
    for kind in (
        errors.InvalidRequest,
        errors.Unauthorized,
        errors.TooLarge,
        errors.UnsupportedMediaType,
        errors.InvalidImage,
        errors.FetchFailed,
        errors.Overloaded,
        errors.InvalidModelReply,
        errors.ModelUnavailable,
        errors.DeadlineExceeded,
        errors.InternalError,
    )
}

# A proxy in front of the service sends these statuses with a page of its own, so only the status is known.
BY_STATUS: Mapping[int, type[errors.GensegError]] = {
    401: errors.Unauthorized,
    408: errors.DeadlineExceeded,
    413: errors.TooLarge,
    429: errors.TooManyRequests,
    503: errors.Overloaded,
    504: errors.DeadlineExceeded,
}


class ConnectionFailed(errors.GensegError):
    """No server answers at the address, or the connection broke before the answer was complete."""

    code = "connection_failed"


class InvalidAnswer(errors.GensegError):
    """Not an answer of this service, but a proxy's page, a redirect, or a wrong document or mask."""

    code = "invalid_answer"


def error_of(body: ErrorBody, status: int | None = None) -> errors.GensegError:
    """Return the server's error as an exception of the same class as on the server.

    Args:
        body: the error.
        status: the HTTP status, because two classes have the code `overloaded`; None for an error in a document.

    Returns:
        An error with the body's message and field. For an unknown code, its class is that of the status in BY_STATUS,
        else GensegError.
    """
    kind = BY_CODE.get(body.code)
    if kind is None:
        kind = BY_STATUS.get(status or 0, errors.GensegError)
        return kind(f"{body.message} ({body.code})", body.field)
    if kind is errors.Overloaded and status == errors.TooManyRequests.status:
        kind = errors.TooManyRequests
    return kind(body.message, body.field)


def read_error(status: int, headers: Mapping[str, str], content: bytes, url: str) -> errors.GensegError:
    """Return the error for an answer whose status is not expected.

    Args:
        status: the HTTP status.
        headers: the answer's headers, by names in lower case.
        content: the body: the service's error as JSON, or what a proxy wrote.
        url: the address of the call, for messages.

    Returns:
        The service's error. If the answer is not from the service, an error of the status's class in BY_STATUS, else
        InvalidAnswer.
    """
    try:
        document = ErrorDocument.model_validate_json(content, extra="ignore")
    except ValidationError:
        error = _foreign_error(status, headers, content, url)
    else:
        error = error_of(document.error, status)
        if status in {404, 405}:  # the address is what is wrong, so the message names it
            error = type(error)(f"{url}: {error.message}", error.field)
    if isinstance(error, errors.Overloaded):
        retry_after_s = read_retry_after(headers.get("retry-after"), datetime.now(UTC))
        if retry_after_s is not None:
            error.retry_after_s = retry_after_s
    return error


def _foreign_error(status: int, headers: Mapping[str, str], content: bytes, url: str) -> errors.GensegError:
    kind = BY_STATUS.get(status)
    if kind is not None:
        return kind(f"{url}: answered {status}: {excerpt(content)}")
    if 300 <= status < 400:
        return InvalidAnswer(f"{url}: answered {status}, a redirect to {headers.get('location')!r}; use that address")
    return InvalidAnswer(f"{url}: answered {status}, which is not an answer of this service: {excerpt(content)}")


def excerpt(content: bytes) -> str:
    """Quote the beginning of a body on one line, for a message."""
    text = " ".join(content[: 4 * EXCERPT_CHARS].decode("utf-8", "replace").split())
    return repr(text[:EXCERPT_CHARS]) if text else "an empty body"
