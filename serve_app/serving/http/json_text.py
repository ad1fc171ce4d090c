"""Parse JSON with a limit on the number of values, and write JSON in chunks. Pure.

The limit of a request's bytes is not enough: a few megabytes of `0,0,0,…` become millions of Python objects. So the
separators in the text are counted before parsing, which takes milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from pydantic import JsonValue

from serve_app.errors import InvalidRequest, TooLarge

MAX_SEPARATORS = 100_000
"""At most this many brackets, braces, commas and colons in a text, also inside strings. Base64 has none of them. The
largest request that the configuration can allow (1,024 images, 1,024 entities, 2,048 thresholds) has some 12,000."""
_SEPARATORS = b"[{,:"
CHUNK_BYTES = 1 << 20
"""Approximate size of a chunk of an answer."""
PIECE = 1024
"""At most this many items of a list are encoded in one step."""
_PLAIN = frozenset({int, float, bool, type(None)})
SHORT = 64
"""Lists of at most this many items are encoded in one step, together with the value that contains them."""
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_LOOKED_AT = 64 * 1024  # bytes at the start of a text in which unclosed brackets are counted
_DEPTH = 1000  # about the depth at which Python's parser fails


def loads(text: bytes | str, what: str = "the JSON", field: str | None = None) -> Any:
    """Parse JSON. Unlike the standard library, refuse NaN, infinity and repeated keys.

    It needs memory for about MAX_SEPARATORS values, the decoded text (up to 4 bytes per character), and the strings.
    Measured on 64 MiB of one string: 0.1 to 0.55 s and 64 to 450 MB.

    Args:
        text: UTF-8, UTF-16 or UTF-32 bytes, or a string.
        what: names the text in messages.
        field: the request's field that contains the text; None for the whole body.

    Raises:
        TooLarge: the text has more than MAX_SEPARATORS separators.
        InvalidRequest: the text is not JSON, or nested too deep for the parser (about 1,000 levels).
    """
    raw = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
    if sum(map(raw.count, _SEPARATORS)) > MAX_SEPARATORS:
        if _unclosed(raw[:_LOOKED_AT]) > _DEPTH:
            raise InvalidRequest(f"{what} is nested too deep", field)
        raise TooLarge(f"{what} has over {MAX_SEPARATORS:,} brackets, commas and colons", field)
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except RecursionError:
        raise InvalidRequest(f"{what} is nested too deep", field) from None
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise InvalidRequest(f"{what} is not UTF-8 (byte 0x{byte:02x} at {error.start})", field) from None
    except ValueError as error:
        # Only the part before the first colon, because the rest may quote the text.
        raise InvalidRequest(f"{what} is not JSON: {str(error).split(':')[0]}", field) from None


def dump_chunks(value: Any) -> list[bytes]:
    """Write JSON in UTF-8, without spaces between tokens; lone surrogates become question marks.

    It needs memory for the text itself. The standard encoder holds Python's lock until it is done, for example 6 s for
    the polygons of a large answer. So long lists are written PIECE items at a time, and long strings in parts.

    Returns:
        The text in chunks of about CHUNK_BYTES each; at least one chunk.

    Raises:
        ValueError: a number is infinite or not a number.
    """
    chunks, chunk = [], bytearray()
    for piece in _pieces(value):
        chunk += piece.encode(errors="replace")
        if len(chunk) >= CHUNK_BYTES:
            chunks.append(bytes(chunk))
            chunk.clear()
    return [*chunks, bytes(chunk)] if chunk or not chunks else chunks


def _pieces(value: Any) -> Iterator[str]:
    if _is_short(value):
        yield _encoder.encode(value)
    elif isinstance(value, str):
        yield '"'
        for start in range(0, len(value), CHUNK_BYTES // 4):
            yield _encoder.encode(value[start : start + CHUNK_BYTES // 4])[1:-1]
        yield '"'
    elif isinstance(value, dict):
        before = "{"
        for key, inner in value.items():
            yield f"{before}{_encoder.encode(key)}:"
            yield from _pieces(inner)
            before = ","
        yield "}"
    else:
        before = "["
        for start in range(0, len(value), PIECE):
            piece = value[start : start + PIECE]
            if _is_flat(piece):
                yield before + _encoder.encode(piece)[1:-1]
            else:
                for inner in piece:
                    yield before
                    yield from _pieces(inner)
                    before = ","
            before = ","
        yield "]"


def _is_flat(piece: Sequence[Any]) -> bool:
    """Return whether a piece of a list has only numbers, booleans and nulls, or only short lists of them (points)."""
    kinds = {*map(type, piece)}
    if kinds == {list}:
        return sum(map(len, piece)) <= 8 * PIECE and {*map(type, chain.from_iterable(piece))} <= _PLAIN
    return kinds <= _PLAIN


def _is_short(value: Any) -> bool:
    """Return whether a value with all its contents is short enough to be encoded in one step."""
    if isinstance(value, str):
        return len(value) < CHUNK_BYTES
    if isinstance(value, dict):
        return all(map(_is_short, value.values()))
    if isinstance(value, list | tuple):
        return len(value) <= SHORT and all(map(_is_short, value))
    return True


def _unclosed(raw: bytes) -> int:
    return sum(map(raw.count, b"[{")) - sum(map(raw.count, b"]}"))


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _unique_keys(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is given twice")
    return value
