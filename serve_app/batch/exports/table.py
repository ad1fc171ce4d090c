"""Writes results as one flat table, CSV or Parquet, with a row for each job, image and entity."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

from pydantic import JsonValue

from serve_app.batch.exports.jobs import Job
from serve_app.batch.exports.reading import Results
from serve_app.batch.output import OutputError
from serve_app.batch.parquet import load_pyarrow
from serve_app.batch.parquet_schema import PREFIX, Contents, column_cell, column_types
from serve_app.batch.text_cells import text_cell, whole_text
from serve_app.batch.whole_file import whole_file
from serve_app.masks.areas import covered_pixels
from serve_app.schemas.entity_rows import COLUMN_TYPES, EntityRow, entity_rows

COLUMNS = tuple(COLUMN_TYPES)
_ROWS_A_GROUP = 50_000


class _Row(TypedDict):
    """A row of the table, with the job that it belongs to."""

    job: Job
    row: EntityRow


def write_table(path: Path, results: Results) -> dict[str, int]:
    """Write the table, as Parquet if the file's name ends in .parquet, otherwise as CSV.

    The columns are `id`, the fields of `EntityRow`, and `column.NAME` for every extra column of the manifest. CSV is in
    UTF-8, with cells as in verdicts.csv: null is an empty cell. In Parquet, `id` is text.

    Args:
        path: the file to write; see `whole_file`.
        results: the results; they are read twice, the first time for the columns.

    Returns:
        The number of rows and of jobs.

    Raises:
        OutputError: the file cannot be written, pyarrow is missing, or a mask is malformed.
    """
    contents = Contents()
    for job in results.jobs():
        contents.note_columns(job.columns)
    counts = {"rows": 0, "jobs": 0}

    def rows() -> Iterator[_Row]:
        for job in results.jobs():
            counts["jobs"] += 1
            for row in _rows_of(job):
                counts["rows"] += 1
                yield {"job": job, "row": row}

    try:
        if path.suffix.lower() == ".parquet":
            _write_parquet(path, rows(), contents)
        else:
            _write_csv(path, rows(), contents)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from None
    return counts


def _rows_of(job: Job) -> Iterator[EntityRow]:
    try:
        yield from entity_rows(job.document, covered_pixels)
    except ValueError as error:
        raise OutputError(f"job {job.id!r}: a mask cannot be read: {error}") from None


def _write_csv(path: Path, rows: Iterator[_Row], contents: Contents) -> None:
    with whole_file(path) as whole:
        # An id may hold half of a surrogate pair, which is written as its escape, as in the shards.
        file = io.TextIOWrapper(whole, "utf-8", errors="backslashreplace", newline="", write_through=True)
        writer = csv.writer(file)
        writer.writerow(["id", *COLUMNS, *(PREFIX + name for name in contents.columns)])
        for each in rows:
            own: list[JsonValue] = [each["job"].id, *each["row"].values()]  # type: ignore[list-item]
            further = [each["job"].columns.get(name) for name in contents.columns]
            writer.writerow([text_cell(value) for value in (*own, *further)])
        file.detach()  # `whole_file` closes the binary file


def _write_parquet(path: Path, rows: Iterator[_Row], contents: Contents) -> None:
    pyarrow = load_pyarrow()
    schema = _schema(pyarrow, contents)
    with whole_file(path) as file, pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := [_parquet_row(each, contents) for each in itertools.islice(rows, _ROWS_A_GROUP)]:
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))


def _schema(pyarrow: Any, contents: Contents) -> Any:
    own = {name: pyarrow.type_for_alias(kind) for name, kind in {"id": "string", **COLUMN_TYPES}.items()}
    return pyarrow.schema({**own, **column_types(pyarrow, contents)})


def _parquet_row(each: _Row, contents: Contents) -> Any:
    columns = each["job"].columns
    further = {PREFIX + name: column_cell(columns.get(name), kind) for name, kind in contents.columns.items()}
    row = {"id": str(each["job"].id), **each["row"], **further}
    return {name: whole_text(value) for name, value in row.items()}
