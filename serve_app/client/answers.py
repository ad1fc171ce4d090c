"""Reads the service's answers: whole documents, and the events of a stream, line by line.

Pure: takes bytes, returns values or raises errors, and uses neither sockets nor a clock. Unknown fields are skipped, so
that an older client can read a newer server's answers. Known fields are checked as strictly as the server checks
requests, so that a wrong document is an error and never an incomplete result.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from serve_app.client.failures import ConnectionFailed, InvalidAnswer, error_of, excerpt
from serve_app.client.results import ImageResult, Result
from serve_app.schemas.base import field_path
from serve_app.schemas.documents import DroppedEntity
from serve_app.schemas.events import (
    EntitiesEventDocument,
    ErrorEventDocument,
    ImageEventDocument,
    ResultEventDocument,
    Role,
)

Document = TypeVar("Document", bound=BaseModel)


@dataclass(frozen=True)
class EntitiesEvent:
    """The prompt was read: `entities` will be segmented, `dropped` will not."""

    entities: tuple[str, ...]
    dropped: tuple[DroppedEntity, ...] = ()


@dataclass(frozen=True)
class ImageEvent:
    """One image is finished; `index` counts from 0 within its role. A later event of the same image replaces it."""

    role: Role
    index: int
    image: ImageResult


@dataclass(frozen=True)
class ResultEvent:
    """The last event: the whole result, with images in the order of the request."""

    result: Result


Event = EntitiesEvent | ImageEvent | ResultEvent


def read_document(document: type[Document], content: bytes, url: str) -> Document:
    """Read the body of a successful answer.

    Args:
        document: the answer's schema; unknown fields are skipped at every depth.
        content: the body, JSON.
        url: the address of the call, for messages.

    Raises:
        InvalidAnswer: the body does not fit the schema. The message names the first wrong field.
    """
    try:
        return document.model_validate_json(content, extra="ignore")
    except ValidationError as error:
        raise InvalidAnswer(f"{url}: the answer is not a {document.__name__}: {_first_of(error)}") from None


class EventReader:
    """Reads events from a stream of JSON lines. The stream may be cut into pieces anywhere.

    Args:
        url: the address of the call, for messages.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._rest = bytearray()
        self._done = False

    def feed(self, piece: bytes) -> list[Event]:
        """Take the next bytes of the stream.

        Returns:
            The events whose lines are now complete, in order; often none.

        Raises:
            GensegError: a line is an error event; this is its error.
            InvalidAnswer: a line is not an event.
        """
        # Split at "\n" only: str.splitlines would also split at U+2028 and others, which JSON text may contain.
        *lines, rest = piece.split(b"\n")
        if lines:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest.clear()
        self._rest += rest
        return [event for line in lines if line.strip() and (event := self._read(line)) is not None]

    def end(self) -> list[Event]:
        """Read what is left when the stream has ended.

        Returns:
            The event of a last line that has no line feed, if there is one.

        Raises:
            GensegError: that last line is an error event; this is its error.
            ConnectionFailed: the stream ended before a result or an error.
        """
        try:
            events = self.feed(b"\n")
        except InvalidAnswer:
            events = []  # half a line; the error below explains it better
        if not self._done:
            raise ConnectionFailed(f"{self._url}: the stream ended before its result")
        return events

    def _read(self, line: bytes) -> Event | None:
        try:
            body = json.loads(line)
        except ValueError:
            raise InvalidAnswer(f"{self._url}: a line of the stream is not JSON: {excerpt(line)}") from None
        kind = body.get("event") if isinstance(body, dict) else None
        if not isinstance(kind, str):
            raise InvalidAnswer(f"{self._url}: a line of the stream is not an event: {excerpt(line)}")
        try:
            return self._event(kind, body)
        except ValidationError as error:
            raise InvalidAnswer(f"{self._url}: wrong {kind!r} event: {_first_of(error)}") from None

    def _event(self, kind: str, body: object) -> Event | None:
        if kind == "entities":
            read = _read(EntitiesEventDocument, body)
            return EntitiesEvent(tuple(read.entities), tuple(read.dropped))
        if kind == "image":
            line = _read(ImageEventDocument, body)
            return ImageEvent(line.role, line.index, ImageResult(line.image))
        if kind == "result":
            result = Result(_read(ResultEventDocument, body).result)
            self._done = True
            return ResultEvent(result)
        if kind == "error":
            error = _read(ErrorEventDocument, body).error
            self._done = True
            raise error_of(error)
        return None  # an event of a newer server


def _read(event: type[Document], body: object) -> Document:
    return event.model_validate(body, extra="ignore")


def _first_of(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = field_path(first["loc"])
    return f"{field}: {first['msg']}" if field else first["msg"]
