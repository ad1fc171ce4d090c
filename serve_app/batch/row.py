"""A row of a manifest: its fields, its extra columns, and the check that reports a wrong row in one line.

Extra columns are the columns of a manifest that are not fields of a row, such as `group` or `seed`. They are copied to
the results and do not change them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Annotated

from pydantic import Field, JsonValue, PrivateAttr, ValidationError, model_validator

from serve_app.batch.plain_values import plain
from serve_app.errors import GensegError
from serve_app.schemas.base import Incoming, Text, invalid_request
from serve_app.schemas.field_schemas import JsonType, field_schemas
from serve_app.schemas.requests import RequestOptions

Source = Annotated[Text, Field(min_length=1, max_length=4096)]
NEAR = 2
"""A column is a misspelt field if its name differs from the field's by at most this many letters."""

BEGINNING = 5
"""A column is a shortened field if its name has at least this many letters and a field's name begins with it:
`context`, but not `time`."""

OF_THE_HTTP_BODY = {"contextual_images": "contextual", "generated_image": "generated"}
"""Fields that have another name in the HTTP body than in a manifest."""

MAX_NAMED = 8


class ManifestError(GensegError):
    """A manifest cannot be used; the message names the file and the lines."""


class _Inputs(Incoming):
    # Pydantic lists the fields of the last base class first. This separate class is the last base, so that error
    # messages begin with `id`.
    id: Annotated[str, Field(min_length=1, max_length=1024)] | int
    prompt: Text = ""
    contextual: list[Source] = Field(default_factory=list)
    generated: Source | None = None


class Row(RequestOptions, _Inputs):
    """One row of a manifest: a prompt or entities, the paths of the images, and the options of the request."""

    _columns: dict[str, JsonValue] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _something_to_do(self) -> Row:
        if not self.contextual and self.generated is None:
            raise ValueError("no image: give contextual, generated or both")
        if self.entities is None and not self.prompt.strip():
            raise ValueError("the prompt is empty, and no entities are given")
        return self

    @property
    def key(self) -> str:
        """The id as text: 1 and "1" are the same row, because a CSV file cannot tell them apart."""
        return str(self.id)

    @property
    def columns(self) -> dict[str, JsonValue]:
        """The extra columns, by name. They do not change the result, so the digest does not include them."""
        return self._columns

    @property
    def sources(self) -> tuple[str, ...]:
        """The path or URI of every image: the contextual ones in order, then the generated one."""
        return (*self.contextual, *([] if self.generated is None else [self.generated]))

    def digest(self) -> int:
        """Return a 64-bit digest of all fields except the id. The extra columns are not in it."""
        values = self.model_dump(exclude={"id"}, exclude_defaults=True)
        return digest(json.dumps(values, sort_keys=True, ensure_ascii=False))


FIELDS = frozenset(Row.model_fields)
"""The names of a row's fields. A column with any other name is an extra column."""


def digest(text: str) -> int:
    """Return a 64-bit digest of a text."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def read_row(values: Mapping[str, JsonValue]) -> Row:
    """Check the values of a row and return it.

    Args:
        values: by the name of the column. Null counts as a missing column, also inside an object, because tables have a
            cell for every column, and JSON made from tables has a null.

    Raises:
        ManifestError: the row is wrong; the message does not name the line.
    """
    check_names(values)
    named = {name: value for name, value in values.items() if name in FIELDS and value is not None}
    fields: dict[str, JsonValue] = {name: _of_table(name, _without_nulls(value)) for name, value in named.items()}
    columns = _columns({name: value for name, value in values.items() if name not in FIELDS})
    try:
        row = Row.model_validate(fields)
    except ValidationError as error:
        missing = "id" not in fields or not {"contextual", "generated"} & fields.keys()
        raise ManifestError(invalid_request(error).message + (_named(columns) if missing else "")) from None
    if columns:
        _check_encodable(columns)
    row._columns = columns
    return row


def _columns(values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    columns: dict[str, JsonValue] = {}
    for name, value in values.items():
        try:
            written = plain(value)
        except ValueError as error:
            raise ManifestError(f"{name}: {error}") from None
        if written is not None:
            columns[name] = written
    return columns


def check_names(names: Mapping[str, object] | list[str]) -> None:
    """Check that no column is a misspelt field.

    Raises:
        ManifestError: some are; the message names them and the fields.
    """
    near = [(name, field) for name in names if (field := misspelt_field(name))]
    if near:
        raise ManifestError(", ".join(f"unknown field {name!r}; did you mean {field!r}?" for name, field in near))


@cache
def misspelt_field(name: str) -> str | None:
    """Return the field of which a name is a misspelling; None for a field itself and for any other name.

    A misspelling differs by at most `NEAR` letters, is the beginning of a field (at least `BEGINNING` letters) or its
    singular. Upper and lower case are the same.

    >>> misspelt_field("contextal"), misspelt_field("ID"), misspelt_field("generated_image"), misspelt_field("seed")
    ('contextual', 'id', 'generated', None)
    >>> misspelt_field("context"), misspelt_field("entity")
    ('contextual', 'entities')
    """
    if name in FIELDS:
        return None
    folded = name.strip().lower().replace("-", "_").replace(" ", "_")
    known = {**{field: field for field in sorted(FIELDS)}, **OF_THE_HTTP_BODY}
    distance, nearest = min((_distance(folded, field), field) for field in known)
    # If every letter differs, it is another word: `n` and `lr` are not a misspelt `id`.
    if distance <= NEAR and distance < max(len(folded), len(nearest)):
        return known[nearest]
    meant = [field for field in known if len(folded) >= BEGINNING and field.startswith(folded)]
    meant += [field for field in known if folded == _singular(field)]
    return known[meant[0]] if meant else None


def _singular(name: str) -> str | None:
    if name.endswith("ies"):
        return name.removesuffix("ies") + "y"
    return name.removesuffix("s") if name.endswith("s") else None


def _distance(one: str, other: str) -> int:
    """Count the edits between two names: a letter changed, added, removed or swapped with the next one.

    This is the optimal string alignment distance; it is `NEAR` + 1 if the lengths differ by more than `NEAR`.
    """
    if abs(len(one) - len(other)) > NEAR:
        return NEAR + 1
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, wanted in enumerate(other, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted)))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                row[j] = min(row[j], last[j - 2] + 1)
    return row[-1]


@cache
def kind_of(name: str) -> JsonType | None:
    """Return a field's type in JSON; None for an extra column."""
    return field_schemas(Row).get(name, {}).get("type", "string") if name in FIELDS else None


def _without_nulls(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {key: inner for key, inner in value.items() if inner is not None}
    return value


def _of_table(name: str, value: JsonValue) -> JsonValue:
    """Convert a value as tables write it, and say what to write if its type is wrong."""
    if name == "id" and isinstance(value, float) and value.is_integer():
        return int(value)  # pandas turns a column of whole numbers into floats if a cell is empty
    if name == "id" and isinstance(value, float | bool | list):
        raise ManifestError("id: must be a text or a whole number")
    if name == "id" and isinstance(value, dict):
        raise ManifestError(
            "id: an object. Write one object per row; pandas does with to_json(path, orient='records', lines=True)"
        )
    kind = kind_of(name)
    if kind == "array" and isinstance(value, str):
        example = '["dog"]' if name == "entities" else '["a.png", "b.png"]'
        raise ManifestError(f"{name}: must be a list, such as {example}; a text is split at ';' in a CSV only")
    if kind == "object" and isinstance(value, str):
        raise ManifestError(f'{name}: must be an object, such as {{"dog": 0.3}}, not a text')
    return value


def _named(columns: Mapping[str, JsonValue]) -> str:
    """List the extra columns, because one of them may be meant as the missing field."""
    if not columns:
        return ""
    more = f" and {len(columns) - MAX_NAMED} more" if len(columns) > MAX_NAMED else ""
    return f"; columns that are not fields: {', '.join(map(repr, [*columns][:MAX_NAMED]))}{more}"


def _check_encodable(columns: Mapping[str, JsonValue]) -> None:
    if _is_encodable(columns):
        return
    name = next(name for name, value in columns.items() if not _is_encodable({name: value}))
    raise ManifestError(f"{name!a}: has half of a surrogate pair, which is not a character")


def _is_encodable(columns: Mapping[str, JsonValue]) -> bool:
    try:
        json.dumps(columns, ensure_ascii=False).encode()
        return True
    except UnicodeEncodeError:
        return False
