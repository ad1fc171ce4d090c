"""A multipart form -> the fields of the JSON body. Knows Starlette's parser; knows no Ray."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncGenerator
from typing import TypedDict

from pydantic import JsonValue
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from serve_app.config.schema import LimitsConfig
from serve_app.errors import InvalidRequest, TooLarge
from serve_app.schemas.field_schemas import field_schemas
from serve_app.schemas.requests import RequestOptions
from serve_app.serving.http import json_text

_OPTIONS = field_schemas(RequestOptions)
_JSON_FIELDS = frozenset(name for name, schema in _OPTIONS.items() if schema["type"] != "string")
_TEXT_FIELDS = frozenset({"prompt", *_OPTIONS}) - _JSON_FIELDS
_FILE_FIELDS = frozenset({"contextual", "generated"})
_EPILOGUE_BYTES = 4096  # what may follow the closing boundary
_MAX_FIELDS = 64  # besides the files: far more than there are names
_MAX_CONTENT_TYPE = 1024  # characters; the parser's time grows with their square
_STEP_BYTES = 1 << 20
_BYTES_A_CHARACTER = 12  # at most, as a pair of JSON escapes (backslash, u, four digits)
_CHARSETS = frozenset(
    codecs.lookup(name).name
    for name in (
        *("utf-8", "ascii", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gbk", "gb18030", "big5", "shift_jis"),
        *("euc_jp", "iso2022_jp", "euc_kr", "cp949", "koi8-r", "koi8-u", "cp874", "mac-roman"),
        *(f"iso8859-{part}" for part in (*range(1, 12), 13, 14, 15, 16)),
        *(f"cp{page}" for page in (437, 850, 852, 866, 932, 936, *range(1250, 1259))),
    )
)
"""Of text: each takes time in proportion to its bytes. Python knows others that do not, such as punycode."""


class FormImage(TypedDict):
    """A file of the form, in the shape of an image of the JSON body."""

    data: bytes
    name: str | None


FormFields = dict[str, JsonValue | FormImage | list[FormImage]]
"""The form in the shape of the JSON body, not checked yet."""


class _InMemoryParser(MultiPartParser):
    # The body is in memory already and bounded; files on disk would only block the loop.
    spool_max_size = 1 << 40


async def read_form(headers: Headers, body: bytes, limits: LimitsConfig) -> FormFields:
    """Parse a multipart form.

    Bounds: parts and false delimiters are counted before anything is parsed, at most 2 * (`limits.max_images` + 65); a
    part's head has at most 8 lines of 4 KiB. A text field may have 64 KiB, and 12 bytes for each character of the
    longest prompt and, three times, of all entities (`thresholds` may name twice as many). So the time is that of
    copying the body, 1 MiB at a time on the event loop, and the memory twice the files' bytes.

    Args:
        headers: of the request; the Content-Type names the boundary and perhaps the charset of the text fields.
        body: the whole body.
        limits: of the request.

    Returns:
        A mapping of the JSON body's shape, images as raw bytes.

    Raises:
        InvalidRequest: no such form, an unknown field, or one given twice.
        TooLarge: more parts, images or text than allowed.
    """
    boundary = _boundary(headers)
    # Each delimiter, also a false one inside a part, costs the parser steps in Python.
    if body.count(b"\r\n--" + boundary) > 2 * (limits.max_images + 1 + _MAX_FIELDS):
        raise TooLarge("the multipart body has too many parts")
    # The parser drops a part that is cut off without a word.
    if b"--" + boundary + b"--" not in body[-len(boundary) - _EPILOGUE_BYTES :]:
        raise InvalidRequest("the multipart body is incomplete: its closing boundary is missing")
    text_bytes = 64 * 1024 + _BYTES_A_CHARACTER * (
        limits.max_prompt_chars + 3 * limits.max_entities * limits.max_entity_chars
    )
    parser = _InMemoryParser(
        headers,
        _pieces(body),
        max_files=limits.max_images + 1,
        max_fields=_MAX_FIELDS,
        max_part_size=text_bytes,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise TooLarge(f"more than {limits.max_images} images") from None
        if "maximum size" in error.message:
            raise TooLarge(f"a text field of the form is over the limit of {text_bytes} bytes") from None
        raise InvalidRequest(f"the multipart body cannot be read: {error.message}") from None
    except (MultipartParseError, ValueError, KeyError) as error:
        raise InvalidRequest(f"the multipart body cannot be read: {type(error).__name__}") from None
    try:
        return await _request_fields(form)
    finally:
        await form.close()


def _boundary(headers: Headers) -> bytes:
    content_type = headers.get("content-type", "")
    if len(content_type) > _MAX_CONTENT_TYPE:
        raise InvalidRequest(f"the Content-Type is over {_MAX_CONTENT_TYPE} characters long")
    parameters = parse_options_header(content_type)[1]
    charset = parameters.get(b"charset", b"utf-8").decode("latin-1")
    try:
        known = codecs.lookup(charset).name in _CHARSETS
    except (LookupError, ValueError):
        known = False
    if not known:
        raise InvalidRequest(f"the form's charset {charset[:40]!r} is not read; use UTF-8")
    boundary = parameters.get(b"boundary")
    if not boundary:
        raise InvalidRequest("the multipart body has no boundary")
    return boundary


async def _pieces(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), _STEP_BYTES):
        yield body[start : start + _STEP_BYTES]
        await asyncio.sleep(0)  # parsing is quick, but a large form's would hold up every other request


async def _request_fields(form: FormData) -> FormFields:
    """Translate form fields into the JSON body's shape."""
    fields: FormFields = {}
    contextual: list[FormImage] = []
    for name, value in form.multi_items():
        if name in _FILE_FIELDS:
            if not isinstance(value, UploadFile):
                raise InvalidRequest(f"{name}: must be a file (curl: -F {name}=@image.jpg)", name)
            image = FormImage(data=await value.read(), name=value.filename or None)
            if name == "contextual":
                contextual.append(image)
            else:
                _refuse_twice("generated_image", fields)
                fields["generated_image"] = image
        elif name not in _TEXT_FIELDS | _JSON_FIELDS:
            raise InvalidRequest(f"{name[:80]}: unknown field", name[:80])
        elif not isinstance(value, str):
            raise InvalidRequest(f"{name}: must be a text field, not a file", name)
        else:
            _refuse_twice(name, fields)
            fields[name] = _json_field(name, value) if name in _JSON_FIELDS else value
    return {**fields, "contextual_images": contextual}


def _refuse_twice(name: str, fields: FormFields) -> None:
    if name in fields:
        raise InvalidRequest(f"{name}: given twice", name)


def _json_field(name: str, text: str) -> JsonValue:
    try:
        value: JsonValue = json_text.loads(text, name, name)
        return value
    except InvalidRequest:
        raise InvalidRequest(f"{name}: {text[:40]!r} is not JSON", name) from None
