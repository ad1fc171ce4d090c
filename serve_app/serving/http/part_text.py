"""Decode the text in a multipart form: names of fields and files, and values, each in its declared charset.

Bytes that do not match their charset are refused, because in another charset they could silently become another text.
Pure; does not know the form's fields.
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
"""UTF-8; a byte order mark at the start is removed."""
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
"""The accepted charsets. Their decoding time is proportional to the number of bytes. Python has other charsets, such as
punycode, whose decoding time grows faster."""
_WIDER = {"utf-8": UTF_8, "gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949", "shift_jis": "cp932"}
"""Charsets that are decoded as a larger one, because texts with that label use its characters. Source: WHATWG
Encoding."""
_ENCODED_WORDS = re.compile(r"(=\?[^?\s]+\?[bBqQ]\?[^?]*\?=\s*)+")


def charset_named(label: str, what: str, field: str | None = None) -> str:
    """Return Python's codec for a charset.

    Args:
        label: the charset's name, as the client wrote it.
        what: begins the error message, before the word "charset".
        field: the form's field, for the error; None for the whole form.

    Returns:
        The name of a codec.

    Raises:
        InvalidRequest: the charset is unknown or not accepted.

    >>> charset_named("Shift_JIS", "the form's")
    'cp932'
    """
    try:
        name = codecs.lookup(label.strip().strip("\"'").lower().removeprefix("x-")).name
    except (LookupError, ValueError):
        name = ""
    name = _WIDER.get(name, name)
    if name not in _CHARSETS:
        raise InvalidRequest(f"{what} charset {label[:40]!r} is not supported; use UTF-8", field)
    return name


def text_of(part: Part, field: str, charset: str) -> str:
    """Decode the value of a field.

    Args:
        part: the field's part; its Content-Type may name a charset.
        field: the field's name.
        charset: the charset if the part names none.

    Raises:
        InvalidRequest: the charset is not accepted, or the bytes do not match it.
    """
    label = parse_options_header(part.headers.get(b"content-type", b""))[1].get(b"charset")
    if label is not None:
        charset = charset_named(label.decode("latin-1"), f"{field}: the", field)
    return _decoded(part.data, charset, field, "the text", "name its charset in the part's Content-Type")


def is_text_field(part: Part, name: bytes) -> bool:
    """Return whether a part is the text field with this name, without decoding anything."""
    parameters = _parameters(part)
    return parameters.get(b"name") == name and b"filename" not in parameters


def field_name(part: Part, charset: str) -> str:
    """Return the name of a part's field.

    Raises:
        InvalidRequest: the part has no name, an empty one, or one that does not match the charset.
    """
    name = _parameters(part).get(b"name")
    if name is None:
        raise InvalidRequest("a part of the form has no name")
    text = _decoded(name, _of_heads(charset), None, "the name of a field")
    if not text:
        raise InvalidRequest("a field of the form has an empty name")
    return text


def file_name(part: Part, field: str, charset: str) -> str | None:
    """Return the file name of a part.

    `filename*` (RFC 8187) is preferred over `filename`, because clients that send both put a fallback into `filename`.
    Encoded words (RFC 2047), which .NET writes, are decoded. A percent sign in `filename` stays as it is.

    Args:
        part: the part.
        field: the field's name.
        charset: the charset of `filename`.

    Returns:
        The name, which may be empty; None if the part has no file name.

    Raises:
        InvalidRequest: the name does not match its charset, or `filename*` is malformed.
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
        raise InvalidRequest(f"{field}: the file's name (filename*) does not follow RFC 8187", field)
    return None


def media_type(part: Part) -> str:
    """Return the part's media type in lower case, without parameters; empty if it has none."""
    return parse_options_header(part.headers.get(b"content-type", b""))[0].decode("latin-1")


def _of_heads(charset: str) -> str:
    """Return the charset of parts' headers: UTF-8 for UTF-16 and UTF-32, because their headers must be ASCII text."""
    return UTF_8 if charset.startswith(("utf-16", "utf-32")) else charset


def _parameters(part: Part) -> dict[bytes, bytes]:
    return parse_options_header(part.headers.get(b"content-disposition", b""))[1]


def _extended_name(part: Part) -> str | None:
    """Decode `filename*`, also in numbered pieces (RFC 2231); None if it is missing or malformed."""
    message = Message()
    message["content-disposition"] = part.headers.get(b"content-disposition", b"").decode("latin-1")
    try:
        parameters = message.get_params([], "content-disposition")
    except (ValueError, TypeError):  # the numbered pieces do not fit together
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
