"""Reads the rows of a manifest in Parquet, as pandas, DuckDB, Polars and others write it."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from serve_app.batch.json_rows import Record
from serve_app.batch.parquet_scalars import as_python, text_of_bytes, written
from serve_app.batch.plain_values import plain
from serve_app.batch.row import FIELDS, ManifestError, check_names

PARQUET_ROWS = 1024
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
"""The column that pandas adds for an index without a name; it is skipped. Source: pandas' metadata for Parquet."""


def parquet_records(path: Path, name: str) -> Iterator[Record]:
    """Yield the rows of a Parquet file; at most `PARQUET_ROWS` are in memory.

    Args:
        path: path of the file.
        name: the file's name in messages.

    Raises:
        ManifestError: pyarrow is missing, the file is broken, a column is named twice, or a field is misspelt.
        OSError: the file cannot be read.
    """
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ManifestError(f"{name}: reading Parquet needs the package pyarrow: pip install 'genseg[batch]'") from None
    try:
        file = parquet.ParquetFile(path)
    except ValueError as error:  # pyarrow.ArrowInvalid is one
        raise ManifestError(f"{name}: not a Parquet file ({str(error).splitlines()[0][:200]})") from None
    line = 0
    with file:
        columns = [column for column in file.schema_arrow.names if not _PANDAS_INDEX.fullmatch(column)]
        _check_columns(columns, name)
        for batch in file.iter_batches(PARQUET_ROWS):
            lists = {column: _values(column, batch.column(column)) for column in columns}
            for number in range(batch.num_rows):
                line += 1
                yield line, _record({column: values[number] for column, values in lists.items()})


def _check_columns(columns: list[str], name: str) -> None:
    twice = [column for column, count in Counter(columns).items() if count > 1]
    if twice:
        raise ManifestError(f"{name}: the column {twice[0]!r} is named twice")
    try:
        check_names(columns)
    except ManifestError as error:
        raise ManifestError(f"{name}: {error.message}") from None


def _values(name: str, column: Any) -> list[Any]:
    """Convert a column of a batch to Python values. A field's value that cannot be converted becomes a ValueError."""
    try:
        return as_python(column)
    except (KeyError, ValueError, OverflowError):
        return [_value(column.slice(index, 1), is_field=name in FIELDS) for index in range(len(column))]


def _value(one: Any, *, is_field: bool) -> Any:
    """Convert an array of one value to a Python value, or to the ValueError that says why it cannot be converted."""
    try:
        return as_python(one)[0]
    except KeyError:
        return ValueError("names a key twice")
    except UnicodeDecodeError as error:
        if is_field:
            return error
    except (ValueError, OverflowError) as error:
        if is_field:
            return ValueError(f"cannot be read: {error}")
    try:
        return written(one[0])
    except ValueError as error:
        return error


def _record(values: dict[str, Any]) -> dict[str, JsonValue] | str:
    """Build a row from its columns. Extra columns stay as they are; `read_row` converts them."""
    row: dict[str, JsonValue] = {}
    for column, value in values.items():
        try:
            if isinstance(value, ValueError):
                raise value
            if value is not None:
                row[column] = plain(text_of_bytes(value)) if column in FIELDS else value
        except UnicodeDecodeError:
            return f"{column}: not UTF-8"
        except ValueError as error:
            return f"{column}: {error}"
    return row
