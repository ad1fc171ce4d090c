"""Errors as a client sees them: the server's, back in the classes they had there, and two of the client's own.

    GensegError
    ├── everything of `errors` that has a code on the wire
    ├── ConnectionFailed        nobody answers at the address, or the connection was cut before the answer's end
    └── InvalidAnswer           somebody else answers: a proxy's page, a redirect, a document or mask that is none

The two stand here because no server sends them. Pure: status, headers and bytes in, an exception out.
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

# A proxy in front of the service says these with a page of its own; the status alone tells what happened.
BY_STATUS: Mapping[int, type[errors.GensegError]] = {
    401: errors.Unauthorized,
    408: errors.DeadlineExceeded,
    413: errors.TooLarge,
    429: errors.TooManyRequests,
    503: errors.Overloaded,
    504: errors.DeadlineExceeded,
}


class ConnectionFailed(errors.GensegError):
    """Nobody answers at the address, or the connection was cut before the answer's end."""

    code = "connection_failed"


class InvalidAnswer(errors.GensegError):
    """The answer is none of this service's: a proxy's page, a redirect, a document or mask that is none."""

    code = "invalid_answer"


def error_of(body: ErrorBody, status: int | None = None) -> errors.GensegError:
    """Turn an error of the wire into the class that it was on the server.

    Args:
        body: the error.
        status: the HTTP status it came with; tells the two kinds of overload apart.

    Returns:
        An error with the body's message and field. For a code that this version does not know: of the class that the
        status stands for, else a plain GensegError.
    """
    kind = BY_CODE.get(body.code)
    if kind is None:
        kind = BY_STATUS.get(status or 0, errors.GensegError)
        return kind(f"{body.message} ({body.code})", body.field)
    if kind is errors.Overloaded and status == errors.TooManyRequests.status:
        kind = errors.TooManyRequests
    return kind(body.message, body.field)


def read_error(status: int, headers: Mapping[str, str], content: bytes, url: str) -> errors.GensegError:
    """Turn an answer that is not a 200 into the error it stands for.

    Args:
        status: the HTTP status.
        headers: the answer's headers, looked up in lower case.
        content: the body; JSON of the one error shape, or whatever a proxy wrote.
        url: where it came from, for messages that the server did not write.

    Returns:
        The class of the server's code, with its message and field; for an answer of somebody else the class that the
        status alone stands for, or InvalidAnswer.
    """
    try:
        document = ErrorDocument.model_validate_json(content, extra="ignore")
    except ValidationError:
        error = _foreign_error(status, headers, content, url)
    else:
        error = error_of(document.error, status)
        if status in {404, 405}:  # nothing is wrong with the request but its address
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
    return InvalidAnswer(f"{url}: answered {status}, and not as this service does: {excerpt(content)}")


def excerpt(content: bytes) -> str:
    """Quote the beginning of a body on one line, for a message."""
    text = " ".join(content[: 4 * EXCERPT_CHARS].decode("utf-8", "replace").split())
    return repr(text[:EXCERPT_CHARS]) if text else "an empty body"
