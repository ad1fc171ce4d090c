"""The manifest: one job a row, as JSONL, CSV or Parquet. Reads and checks rows; opens no image."""

from __future__ import annotations

import csv
import hashlib
import importlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, JsonValue, ValidationError, model_validator

from serve_app.config.findings import hint
from serve_app.errors import GensegError
from serve_app.schemas.base import Incoming, Text, invalid_request
from serve_app.schemas.field_schemas import field_schemas
from serve_app.schemas.requests import RequestOptions

MAX_SHOWN = 5
PARQUET_ROWS = 1024
Source = Annotated[Text, Field(min_length=1, max_length=4096)]


class ManifestError(GensegError):
    """A manifest cannot be used; the message names the file and the lines."""


class _Inputs(Incoming):
    # A base of its own, because fields of the last base come first: `id` leads in reports of faults.
    id: Annotated[str, Field(min_length=1, max_length=1024)] | int
    prompt: Text = ""
    contextual: list[Source] = Field(default_factory=list)
    generated: Source | None = None


class Row(RequestOptions, _Inputs):
    """One job: what to look for, in which images, and the options of its request."""

    @model_validator(mode="after")
    def _something_to_do(self) -> Row:
        if not self.contextual and self.generated is None:
            raise ValueError("no image: give contextual, generated or both")
        if self.entities is None and not self.prompt.strip():
            raise ValueError("the prompt is empty, and no entities are given")
        return self

    @property
    def key(self) -> str:
        """The id as text: 1 and "1" are the same row, as a CSV file cannot tell them apart."""
        return str(self.id)

    @property
    def sources(self) -> tuple[str, ...]:
        """Every image's path or URI: contextual ones in order, then the generated one."""
        return (*self.contextual, *([] if self.generated is None else [self.generated]))

    def digest(self) -> int:
        """64 bits of everything that the row asks for, to tell a changed row from the same one."""
        values = self.model_dump(exclude={"id"}, exclude_defaults=True)
        return digest(json.dumps(values, sort_keys=True, ensure_ascii=False))


@dataclass(frozen=True)
class PlacedRow:
    """A checked row and its line in the file (in Parquet, its row), from 1."""

    line: int
    row: Row


def digest(text: str) -> int:
    """64 bits of a text."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def read_rows(path: Path) -> Iterator[PlacedRow]:
    """Read a manifest row by row; blank lines are skipped.

    Args:
        path: `.csv` and `.parquet` are read as such, everything else as JSONL.

    Raises:
        ManifestError: the file cannot be read, or a row is wrong; names the line.
    """
    for line, values in _records(path):
        if isinstance(values, str):
            raise ManifestError(f"{path}:{line}: {values}")
        yield PlacedRow(line, _row(path, line, values))


def check_rows(path: Path) -> Iterator[PlacedRow]:
    """Read a manifest as read_rows does, and go on after wrong rows, to name several of them at once.

    Raises:
        ManifestError: after the last row: what is wrong, ids that occur twice among it.
    """
    problems: list[str] = []
    wrong = 0
    lines: dict[str, int] = {}
    for line, values in _records(path):
        try:
            if isinstance(values, str):
                raise ManifestError(f"{path}:{line}: {values}")
            placed = PlacedRow(line, _row(path, line, values))
            first = lines.setdefault(placed.row.key, line)
            if first != line:
                raise ManifestError(f"{path}:{line}: the id {placed.row.key!r} is that of line {first} already")
        except ManifestError as error:
            wrong += 1
            if wrong <= MAX_SHOWN:
                problems.append(error.message)
            continue
        yield placed
    if wrong:
        more = [f"{path}: {wrong - MAX_SHOWN} more rows are wrong"] if wrong > MAX_SHOWN else []
        raise ManifestError("\n".join([*problems, *more]))
    if not lines:
        raise ManifestError(f"{path}: the manifest has no rows")


def _row(path: Path, line: int, values: Mapping[str, JsonValue]) -> Row:
    try:
        return Row.model_validate(values)
    except ValidationError as error:
        unknown = next((name for name in values if name not in Row.model_fields), None)
        if unknown is None:
            text = invalid_request(error).message
        else:
            text = f"unknown field {unknown!r}{hint(unknown, Row.model_fields)}"
        raise ManifestError(f"{path}:{line}: {text}") from None


def _records(path: Path) -> Iterator[tuple[int, dict[str, JsonValue] | str]]:
    """Yield each row's line and its values, or what is wrong with it."""
    readers = {".csv": _csv_records, ".parquet": _parquet_records}
    try:
        yield from readers.get(path.suffix.lower(), _json_records)(path)
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror or error}") from None


def _json_records(path: Path) -> Iterator[tuple[int, dict[str, JsonValue] | str]]:
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            try:
                values = json.loads(raw.decode("utf-8-sig" if line == 1 else "utf-8"))
            except UnicodeDecodeError:
                yield line, "not UTF-8"
            except (ValueError, RecursionError):
                yield line, "not a JSON object"
            else:
                yield line, values if isinstance(values, dict) else "not a JSON object"


def _csv_records(path: Path) -> Iterator[tuple[int, dict[str, JsonValue] | str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, restkey="", strict=True)
        while True:
            try:
                cells = next(reader, None)
                if cells is None:
                    return
                yield reader.line_num, _csv_values(cells)
            except UnicodeDecodeError:
                raise ManifestError(f"{path}: not UTF-8") from None
            except (csv.Error, ValueError) as error:
                yield reader.line_num, str(error)


def _csv_values(cells: Mapping[str, str]) -> dict[str, JsonValue]:
    if "" in cells:
        raise ValueError("more cells than the first line has names")
    return {name: _csv_value(name, text.strip()) for name, text in cells.items() if text and text.strip()}


def _csv_value(name: str, text: str) -> JsonValue:
    """Read a cell by its column's type; that of an unknown column is refused later."""
    kind = field_schemas(Row).get(name, {}).get("type", "string")
    if kind == "array" and not text.startswith("["):
        return [part.strip() for part in text.split(";") if part.strip()]
    if kind in {"number", "integer"}:
        try:
            number = float(text)
        except ValueError:
            raise ValueError(f"{name}: not a number") from None
        # Tables of numbers write 3 as 3.0.
        return int(number) if kind == "integer" and number.is_integer() else number
    if kind == "string":
        return text
    try:
        value: JsonValue = json.loads(text)
        return value
    except ValueError:
        raise ValueError(f"{name}: not JSON") from None


def _parquet_records(path: Path) -> Iterator[tuple[int, dict[str, JsonValue] | str]]:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ManifestError(f"{path}: reading Parquet needs the package pyarrow: pip install 'genseg[batch]'") from None
    try:
        file = parquet.ParquetFile(path)
    except ValueError as error:  # pyarrow.ArrowInvalid is one
        raise ManifestError(f"{path}: not a Parquet file ({str(error).splitlines()[0][:200]})") from None
    line = 0
    with file:
        for batch in file.iter_batches(PARQUET_ROWS):
            for values in batch.to_pylist(maps_as_pydicts="strict"):
                line += 1
                yield line, {name: value for name, value in values.items() if value is not None}
