"""Split a multipart body into its parts. The caller interprets the form's fields.

Text before the first delimiter, blanks after a delimiter, and everything after the closing delimiter are skipped.
Source: RFC 2046, section 5.1.1.
"""

from __future__ import annotations

import asyncio
from binascii import Error as Base64Error
from binascii import a2b_base64, a2b_qp
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from serve_app.errors import InvalidRequest, TooLarge

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_STEP_BYTES = 1 << 20
_BLANKS = b" \t"


@dataclass
class Part:
    """One part of a form.

    Attributes:
        headers: the part's headers by lower-case name; of repeated ones, the last.
        data: the part's bytes, after its Content-Transfer-Encoding is decoded.
    """

    headers: dict[bytes, bytes] = field(default_factory=dict)
    data: bytes = b""


async def split(body: bytes, boundary: bytes, max_delimiters: int) -> list[Part]:
    """Split a multipart body.

    Delimiters, also false ones inside a part, are counted before parsing. A part has at most 8 headers of 4 KiB. So
    parsing takes as long as copying the body, and the event loop runs other work after each 1 MiB.

    Args:
        body: the whole body.
        boundary: the Content-Type's boundary.
        max_delimiters: refuse more delimiters than this.

    Raises:
        InvalidRequest: the body is malformed or incomplete.
        TooLarge: the body has too many delimiters.
    """
    start, end = _content(body, boundary, max_delimiters)
    collector = _Collector()
    try:
        parser = MultipartParser(boundary, collector.callbacks())
        for piece in _pieces(body, boundary, start, end):
            parser.write(piece)
            await asyncio.sleep(0)  # lets other requests run while a large form is parsed
    except (FormParserError, ValueError):  # the parser's own messages are for developers
        raise InvalidRequest("the multipart body is malformed: a boundary or a part's header is wrong") from None
    return [_decoded(part) for part in collector.parts]


def _decoded(part: Part) -> Part:
    """Decode a part with a Content-Transfer-Encoding, which e-mail libraries write.

    Raises:
        InvalidRequest: the encoding is unknown, or the data does not match it.
    """
    coding = part.headers.get(b"content-transfer-encoding", b"").strip().lower()
    if coding in {b"", b"binary", b"8bit", b"7bit"}:
        return part
    try:
        if coding == b"base64":
            return Part(part.headers, a2b_base64(part.data))
        if coding == b"quoted-printable":
            return Part(part.headers, a2b_qp(part.data))
    except Base64Error:
        raise InvalidRequest("a part of the form has the Content-Transfer-Encoding base64, but is not base64") from None
    name = coding[:40].decode("latin-1")
    raise InvalidRequest(f"the Content-Transfer-Encoding {name!r} of a part is not supported; send the part without it")


def _content(body: bytes, boundary: bytes, max_delimiters: int) -> tuple[int, int]:
    """Return where the first part's headers and the closing delimiter begin; equal if there is no part."""
    delimiter = b"--" + boundary
    closing = body.find(b"\r\n" + delimiter + b"--")
    # The parser runs Python code for each delimiter. It never sees the delimiters after the closing delimiter.
    if body.count(b"\n" + delimiter, 0, len(body) if closing < 0 else closing) > max_delimiters:
        raise TooLarge("the multipart body has too many parts")
    at = 0 if body.startswith(delimiter) else body.find(b"\n" + delimiter) + 1
    while at or body.startswith(delimiter):
        behind = at + len(delimiter)
        line = body[behind : behind + 256].lstrip(_BLANKS)
        if line.startswith(b"\r\n"):
            start = body.index(b"\r\n", behind) + 2
            # A part without headers and data has no line end of its own before the closing delimiter.
            end = body.find(b"\r\n" + delimiter + b"--", start - 2)
            if end < 0:
                raise InvalidRequest("the multipart body is incomplete: its closing boundary is missing")
            return start, max(start, end)
        if line.startswith(b"\n"):
            raise InvalidRequest("the multipart body's lines end in LF; they must end in CR LF")
        if body.startswith(b"--", behind):
            return behind, behind
        at = body.find(b"\n" + delimiter, behind) + 1
        if not at:
            break
    raise InvalidRequest("the multipart body has no part: no line begins with the boundary that the Content-Type names")


def _pieces(body: bytes, boundary: bytes, start: int, end: int) -> Iterator[bytes]:
    if start == end:
        return
    yield b"--" + boundary + b"\r\n"
    for at in range(start, end, _STEP_BYTES):
        yield body[at : min(end, at + _STEP_BYTES)]
    yield b"\r\n--" + boundary + b"--"


class _Collector:
    """Builds parts from the parser's callbacks."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._name = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._data: list[bytes] = []

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_name,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_part_data": self._add_data,
            "on_part_end": self._end,
        }

    def _begin(self) -> None:
        self._headers, self._data = {}, []

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._data.append(data[start:end])

    def _end(self) -> None:
        self.parts.append(Part(self._headers, b"".join(self._data)))
