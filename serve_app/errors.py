"""The package's exceptions, each with its error code and HTTP status.

    GensegError
    ├── InvalidRequest          400 invalid_request
    │   └── ForeignOrigin       403 invalid_request
    ├── Unauthorized            401 unauthorized
    ├── TooLarge                413 too_large
    ├── UnsupportedMediaType    415 unsupported_media_type
    ├── InvalidImage            422 invalid_image
    ├── FetchFailed             422 fetch_failed
    ├── Overloaded              503 overloaded        (carries retry_after_s)
    │   ├── TooManyRequests     429 overloaded
    │   └── DeploymentUnavailable
    ├── InvalidModelReply       502 invalid_model_reply
    ├── ModelUnavailable        502 model_unavailable (may carry retry_after_s)
    ├── DeadlineExceeded        504 timeout
    ├── InternalError           500 internal
    │   ├── DeviceOutOfMemory
    │   └── ReplicaDied
    ├── CheckpointError         a model cannot be loaded; raised at start, never sent in a response
    └── ConfigError             a configuration is wrong; raised at start, never sent in a response

Every class takes one positional message, so that instances survive pickling between processes. `field` and
`retry_after_s` are plain attributes and are pickled too. Imports nothing from this package.
"""

from __future__ import annotations

from typing import ClassVar


class GensegError(Exception):
    """Base class of the package's exceptions.

    Args:
        message: one line for the user. It names what is wrong and where, never a path or module of the server.
        field: the part of the request that is wrong, such as "contextual_images[1]"; None for the request as a whole.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field

    @property
    def message(self) -> str:
        """The message as given."""
        return str(self.args[0])

    def at(self, field: str) -> GensegError:
        """Return a copy with this field, named before the message; the error itself if it already has a field.

        >>> InvalidImage("is empty").at("generated_image").message
        'generated_image: is empty'
        """
        if self.field is not None:
            return self
        placed = type(self)(f"{field}: {self.message}", field)
        placed.__dict__.update({key: value for key, value in self.__dict__.items() if key != "field"})
        return placed


class InvalidRequest(GensegError):
    """The request is malformed: wrong types, unknown fields, numbers out of range."""

    code = "invalid_request"
    status = 400


class ForeignOrigin(InvalidRequest):
    """No token is configured, and the request comes from a page of another site."""

    status = 403


class Unauthorized(GensegError):
    """A token is configured and the request has none, or a wrong one."""

    code = "unauthorized"
    status = 401


class TooLarge(GensegError):
    """Bytes, pixels, images or entities are over their limit, or the prompt is longer than the parser can read."""

    code = "too_large"
    status = 413


class UnsupportedMediaType(GensegError):
    """The body is neither JSON nor multipart, or it has a Content-Encoding."""

    code = "unsupported_media_type"
    status = 415


class InvalidImage(GensegError):
    """The bytes are not a readable image."""

    code = "invalid_image"
    status = 422


class FetchFailed(GensegError):
    """A URL cannot be fetched, or fetching it is not allowed."""

    code = "fetch_failed"
    status = 422


class Overloaded(GensegError):
    """Queues are full; the same request may succeed after `retry_after_s` seconds."""

    code = "overloaded"
    status = 503
    retry_after_s: float = 1.0


class TooManyRequests(Overloaded):
    """The ingress already handles as many requests as it admits."""

    status = 429


class DeploymentUnavailable(Overloaded):
    """A model's deployment accepts no calls at the moment, for example because its replicas failed to start."""


class InvalidModelReply(GensegError):
    """The parser's reply is not a list of entities, or was cut off."""

    code = "invalid_model_reply"
    status = 502


class ModelUnavailable(GensegError):
    """The parser's own server (engine `openai`) refuses the call, fails, or does not answer.

    `retry_after_s` is None if the same request would fail again.
    """

    code = "model_unavailable"
    status = 502
    retry_after_s: float | None = None


class DeadlineExceeded(GensegError):
    """The request's deadline passed."""

    code = "timeout"
    status = 504


class InternalError(GensegError):
    """Any other failure. The message says only what helps the user."""


class DeviceOutOfMemory(InternalError):
    """A single image or phrase does not fit into the device's memory."""


class ReplicaDied(InternalError):
    """The work failed on every replica that tried it."""


class CheckpointError(GensegError):
    """A checkpoint cannot be loaded. The message says which, why, and what to do."""


class ConfigError(GensegError):
    """A configuration is wrong. The message names the key, the reason and, for an unknown key, the nearest one."""
