"""Convert a multipart form into the fields of the JSON body."""

from __future__ import annotations

from typing import TypedDict

from pydantic import JsonValue
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers

from serve_app.config.schema import LimitsConfig
from serve_app.errors import InvalidRequest, TooLarge
from serve_app.schemas.field_schemas import field_schemas
from serve_app.schemas.nearest import hint
from serve_app.schemas.requests import RequestOptions
from serve_app.serving.http import json_text
from serve_app.serving.http.multipart import Part, split
from serve_app.serving.http.part_text import (
    UTF_8,
    charset_named,
    field_name,
    file_name,
    is_text_field,
    media_type,
    text_of,
)

_OPTIONS = field_schemas(RequestOptions)
_JSON_FIELDS = frozenset(name for name, schema in _OPTIONS.items() if schema["type"] != "string")
_TEXT_FIELDS = frozenset({"prompt", *_OPTIONS}) - _JSON_FIELDS
_FILE_FIELDS = frozenset({"contextual", "generated"})
_CHARSET_FIELD = "_charset_"
"""This field names the charset of text fields that name no charset. Source: RFC 7578, section 4.6."""
_MAX_FIELDS = 64  # besides the files; there are far fewer field names
_MAX_CONTENT_TYPE = 1024  # characters; the parser's time grows with the square of their number
_BYTES_PER_CHARACTER = 12  # at most: a character may be two JSON escapes such as \ud83d\ude00


class FormImage(TypedDict):
    """A file of the form, with the keys of an image in the JSON body."""

    data: bytes
    name: str | None


FormFields = dict[str, JsonValue | FormImage | list[FormImage]]
"""The form with the keys of the JSON body, not checked yet."""


async def read_form(headers: Headers, body: bytes, limits: LimitsConfig) -> FormFields:
    """Parse a multipart form.

    `multipart.split` gets at most 2 * (`limits.max_images` + 65) delimiters. A text field may have 64 KiB plus 12 bytes
    per character, for the characters of the longest prompt and three times those of all entities, because `thresholds`
    may name twice as many entities. So parsing takes as long as copying the body, and memory of twice the files.

    Args:
        headers: the request's headers; the Content-Type has the boundary and perhaps the charset of the text fields.
        body: the whole body.
        limits: the limits on images, the prompt and entities.

    Returns:
        The fields of the JSON body, with images as raw bytes.

    Raises:
        InvalidRequest: the form is malformed, a field is unknown or repeated, or text does not match its charset.
        TooLarge: there are too many parts or images, or a text is too long.
    """
    boundary, charset = _content_type(headers)
    parts = await split(body, boundary, 2 * (limits.max_images + 1 + _MAX_FIELDS))
    return _Form(limits, _default_charset(parts, charset)).fields(parts)


def _content_type(headers: Headers) -> tuple[bytes, str]:
    """Return the boundary and the charset of text fields that the Content-Type names."""
    content_type = headers.get("content-type", "")
    if len(content_type) > _MAX_CONTENT_TYPE:
        raise InvalidRequest(f"the Content-Type is over {_MAX_CONTENT_TYPE} characters long")
    parameters = parse_options_header(content_type)[1]
    charset = charset_named(parameters.get(b"charset", b"utf-8").decode("latin-1"), "the form's")
    boundary = parameters.get(b"boundary")
    if not boundary:
        raise InvalidRequest("the multipart body has no boundary")
    return boundary, charset


def _default_charset(parts: list[Part], charset: str) -> str:
    labels = [part.data for part in parts if is_text_field(part, _CHARSET_FIELD.encode())]
    for label in labels:
        charset = charset_named(label.decode("latin-1"), f"{_CHARSET_FIELD}: the", _CHARSET_FIELD)
    return charset


class _Form:
    """Sorts the parts of one form into fields.

    Args:
        limits: the limits on images, the prompt and entities.
        charset: the charset of text fields that name no charset.
    """

    def __init__(self, limits: LimitsConfig, charset: str) -> None:
        self._max_images = limits.max_images
        self._max_text_bytes = 64 * 1024 + _BYTES_PER_CHARACTER * (
            limits.max_prompt_chars + 3 * limits.max_entities * limits.max_entity_chars
        )
        self._charset = charset
        self._fields: FormFields = {}
        self._contextual: list[FormImage] = []

    def fields(self, parts: list[Part]) -> FormFields:
        for part in parts:
            name = field_name(part, self._charset)
            if name in _FILE_FIELDS:
                self._add_file(name, part)
            elif name in _TEXT_FIELDS | _JSON_FIELDS | {_CHARSET_FIELD}:
                self._add_text(name, part)
            else:
                known = _FILE_FIELDS | _TEXT_FIELDS | _JSON_FIELDS
                raise InvalidRequest(f"{name[:80]}: unknown field{hint(name[:80], known)}", name[:80])
        self._fields.pop(_CHARSET_FIELD, None)
        return {**self._fields, "contextual_images": [*self._contextual]}

    def _add_file(self, name: str, part: Part) -> None:
        called = file_name(part, name, self._charset)
        if called is None and media_type(part).partition("/")[0] in {"", "text"}:
            raise InvalidRequest(f"{name}: must be a file (curl: -F {name}=@image.jpg)", name)
        if called == "" and not part.data:
            return  # browsers send this for a file input without a chosen file
        image = FormImage(data=part.data, name=called or None)
        if name == "contextual":
            self._contextual.append(image)
        else:
            self._refuse_twice("generated_image")
            self._fields["generated_image"] = image
        if len(self._contextual) + ("generated_image" in self._fields) > self._max_images:
            raise TooLarge(f"more than {self._max_images} images")

    def _add_text(self, name: str, part: Part) -> None:
        if file_name(part, name, self._charset) is not None:
            raise InvalidRequest(f"{name}: must be a text field, not a file", name)
        if len(part.data) > self._max_text_bytes:
            raise TooLarge(f"{name}: a text field of the form is over the limit of {self._max_text_bytes} bytes", name)
        self._refuse_twice(name)
        text = text_of(part, name, UTF_8 if name == _CHARSET_FIELD else self._charset)
        # Browsers send line ends in forms as CRLF; in JSON the same prompt has LF.
        self._fields[name] = _json_field(name, text) if name in _JSON_FIELDS else text.replace("\r\n", "\n")

    def _refuse_twice(self, name: str) -> None:
        if name in self._fields:
            raise InvalidRequest(f"{name}: given twice", name)


_SCALARS = {
    **dict.fromkeys(("threshold", "mask_threshold", "timeout_s"), "a number"),
    **dict.fromkeys(("overlays", "verdict"), "true or false"),
}
"""The fields with a single value, and its type in words. The other fields are lists and objects, written as JSON."""


def _json_field(name: str, text: str) -> JsonValue:
    try:
        value: JsonValue = json_text.loads(text, name, name)
        return value
    except InvalidRequest as error:
        if "given twice" in error.message:
            raise
        raise InvalidRequest(f"{name}: {text[:40]!r} is not {_SCALARS.get(name, 'JSON')}", name) from None
