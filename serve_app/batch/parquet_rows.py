"""Rows of a manifest in Parquet, as pandas, DuckDB, Polars and others write it."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from serve_app.batch.json_rows import Record
from serve_app.batch.plain_values import plain
from serve_app.batch.row import ManifestError, check_names

PARQUET_ROWS = 1024
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
"""What pandas calls an index without a name: no column of the user's. Source: pandas' metadata for Parquet."""


def parquet_records(path: Path, name: str) -> Iterator[Record]:
    """Yield the rows of a file, `PARQUET_ROWS` of them in memory.

    Args:
        path: of the file.
        name: of the file in messages.

    Raises:
        ManifestError: pyarrow is missing, the file is broken, or a column is named twice or like a field.
        OSError: it cannot be read.
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
            lists = {column: _values(batch.column(column)) for column in columns}
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


def _values(column: Any) -> list[Any]:
    """Convert a column of a batch; a value that names something twice becomes the error that says so."""
    try:
        values: list[Any] = column.to_pylist(maps_as_pydicts="strict")
        return values
    except (KeyError, ValueError):
        pass
    values = []
    for item in column:
        try:
            values.append(item.as_py(maps_as_pydicts="strict"))
        except (KeyError, ValueError) as error:
            values.append(error)
    return values


def _record(values: dict[str, Any]) -> dict[str, JsonValue] | str:
    for column, value in values.items():
        if isinstance(value, KeyError | ValueError):
            twice = "names a key twice" if isinstance(value, KeyError) else f"cannot be read: {value}"
            return f"{column}: {twice}"
    return {column: plain(value) for column, value in values.items() if value is not None}
