"""What is text in a multipart form: names of fields and files, and values, each in the charset that was declared.

Bytes that are no text of their charset are refused: read in another one they would be another text, without a word.
Pure; knows no fields.
"""

from __future__ import annotations

import codecs
import re
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message

from python_multipart.multipart import parse_options_header

from serve_app.errors import InvalidRequest
from serve_app.serving.http.multipart import Part

UTF_8 = "utf-8-sig"
"""UTF-8; a mark at the start that says so is no part of the text."""
_CHARSETS = frozenset(
    codecs.lookup(name).name
    for name in (
        *("utf-8", "utf-8-sig", "ascii", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gbk", "gb18030", "big5"),
        *("big5hkscs", "shift_jis", "euc_jp", "iso2022_jp", "euc_kr", "cp949", "koi8-r", "koi8-u", "cp874"),
        *("mac-roman", "tis-620"),
        *(f"iso8859-{part}" for part in (*range(1, 12), 13, 14, 15, 16)),
        *(f"cp{page}" for page in (437, 850, 852, 866, 932, 936, *range(1250, 1259))),
    )
)
"""Of text: each takes time in proportion to its bytes. Python knows others that do not, such as punycode."""
_WIDER = {"utf-8": UTF_8, "gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949", "shift_jis": "cp932"}
"""Charsets that are read as a larger one, whose characters texts of that label hold. Source: WHATWG Encoding."""
_ENCODED_WORDS = re.compile(r"(=\?[^?\s]+\?[bBqQ]\?[^?]*\?=\s*)+")


def charset_named(label: str, what: str, field: str | None = None) -> str:
    """Find a charset.

    Args:
        label: as the client wrote it.
        what: what the text is, for the message.
        field: of the form, for the message.

    Returns:
        The name of a codec.

    Raises:
        InvalidRequest: there is none, or it is no charset of plain text.
    """
    try:
        name = codecs.lookup(label.strip().strip("\"'").lower().removeprefix("x-")).name
    except (LookupError, ValueError):
        name = ""
    name = _WIDER.get(name, name)
    if name not in _CHARSETS:
        raise InvalidRequest(f"{what} charset {label[:40]!r} is not read; use UTF-8", field)
    return name


def text_of(part: Part, field: str, charset: str) -> str:
    """Decode the value of a field.

    Args:
        part: its Content-Type may name a charset.
        field: its name.
        charset: where the part names none.

    Raises:
        InvalidRequest: the charset is unknown, or the bytes are not of it.
    """
    label = parse_options_header(part.headers.get(b"content-type", b""))[1].get(b"charset")
    if label is not None:
        charset = charset_named(label.decode("latin-1"), f"{field}: the", field)
    return _decoded(part.data, charset, field, "the text", "name its charset in the part's Content-Type")


def is_text_field(part: Part, name: bytes) -> bool:
    """Tell whether a part is the text field of this name; asked before any charset is known."""
    parameters = _parameters(part)
    return parameters.get(b"name") == name and b"filename" not in parameters


def field_name(part: Part, charset: str) -> str:
    """Read the name of the field that a part belongs to.

    Raises:
        InvalidRequest: it has none, an empty one, or one that is no text.
    """
    name = _parameters(part).get(b"name")
    if name is None:
        raise InvalidRequest("a part of the form has no name")
    text = _decoded(name, _of_heads(charset), None, "the name of a field")
    if not text:
        raise InvalidRequest("a field of the form has an empty name")
    return text


def file_name(part: Part, field: str, charset: str) -> str | None:
    """Read the name of the file that a part holds.

    `filename*` (RFC 8187) comes before `filename`: who sends both writes a substitute into the latter. A name of
    encoded words (RFC 2047), which .NET writes, is decoded. A percent sign in `filename` is a percent sign.

    Args:
        part: the part.
        field: the field's name.
        charset: of `filename`.

    Returns:
        Empty where the name is; None where the part names no file.

    Raises:
        InvalidRequest: the name is no text of its charset.
    """
    plain = _parameters(part).get(b"filename")
    extended = _extended_name(part)
    if extended:
        return extended
    if plain is not None:
        return _without_encoded_words(_decoded(plain, _of_heads(charset), field, "the file's name"))
    if extended is not None:
        return extended
    if b"filename*" in part.headers.get(b"content-disposition", b"").lower():
        raise InvalidRequest(f"{field}: the file's name (filename*) is not written as RFC 8187 says", field)
    return None


def media_type(part: Part) -> str:
    """The part's media type in lower case, without parameters; empty if it names none."""
    return parse_options_header(part.headers.get(b"content-type", b""))[0].decode("latin-1")


def _of_heads(charset: str) -> str:
    """The charset of a part's head where the text is of `charset`: the head's own marks are bytes of ASCII."""
    return UTF_8 if charset.startswith(("utf-16", "utf-32")) else charset


def _parameters(part: Part) -> dict[bytes, bytes]:
    return parse_options_header(part.headers.get(b"content-disposition", b""))[1]


def _extended_name(part: Part) -> str | None:
    """Read `filename*`, also in numbered pieces (RFC 2231); None where there is none that can be read."""
    message = Message()
    message["content-disposition"] = part.headers.get(b"content-disposition", b"").decode("latin-1")
    try:
        parameters = message.get_params([], "content-disposition")
    except (ValueError, TypeError):  # pieces that do not fit together
        return None
    for name, value in parameters:
        if name.lower() == "filename" and isinstance(value, tuple):
            try:
                charset = charset_named(value[0] or "utf-8", "the")
                return str(value[2].encode("latin-1"), charset)
            except (InvalidRequest, ValueError):
                return None
    return None


def _without_encoded_words(name: str) -> str:
    if not _ENCODED_WORDS.fullmatch(name):
        return name
    try:
        words = [(word, charset_named(charset or "ascii", "the")) for word, charset in decode_header(name)]
        return "".join(str(word, charset) if isinstance(word, bytes) else word for word, charset in words)
    except (InvalidRequest, HeaderParseError, ValueError):
        return name


def _decoded(data: bytes, charset: str, field: str | None, what: str, advice: str = "") -> str:
    try:
        return data.decode(charset)
    except UnicodeDecodeError as error:
        place = f"{field}: " if field else ""
        label = "UTF-8" if charset == UTF_8 else charset
        hint = f", or {advice}" if advice else ""
        raise InvalidRequest(
            f"{place}{what} is not {label} (byte 0x{data[error.start]:02x} at {error.start}); send UTF-8{hint}", field
        ) from None
