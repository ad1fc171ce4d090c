"""Writes the verdicts of a dataset as one CSV file, with a row for each entity and a row for each reference."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from serve_app.batch.output import OutputError
from serve_app.batch.shards import ResultLine
from serve_app.batch.text_cells import text_cell
from serve_app.batch.verdict_means import group_of
from serve_app.batch.whole_file import whole_file
from serve_app.schemas.verdict import EntityVerdict, ReferenceVerdict

FILE_NAME = "verdicts.csv"
OF_THE_JOB = ("id", "group", "arrived", "kind")
COLUMNS = tuple(dict.fromkeys([*OF_THE_JOB, *EntityVerdict.model_fields, *ReferenceVerdict.model_fields]))
"""The columns of the table. Rows about entities and rows about references both have `status`. The columns of the other
kind are empty."""


@dataclass(frozen=True)
class Written:
    """The number of rows of each kind in a table."""

    entities: int
    references: int


def write_verdicts(path: Path, results: Iterable[ResultLine]) -> Written:
    """Write the verdicts of results as CSV in UTF-8. A result without a verdict has no row.

    The columns are `COLUMNS`: `id`, `group` and `arrived` of the manifest's row, `kind` (`entity` or `reference`), then
    the fields of the verdict's rows. Null is an empty cell, a list or an object is JSON. A text that a spreadsheet
    would read as a formula gets an apostrophe before it.

    Args:
        path: the file to write; see `whole_file`.
        results: in the order of the table.

    Returns:
        The number of rows that were written.

    Raises:
        OutputError: the file cannot be written.
    """
    counts = {"entity": 0, "reference": 0}
    try:
        with whole_file(path) as whole:
            # An id may hold half of a surrogate pair, which is written as its escape, as in the shards.
            file = io.TextIOWrapper(whole, "utf-8", errors="backslashreplace", newline="", write_through=True)
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for document in results:
                for row in _rows(document):
                    writer.writerow([text_cell(row.get(column)) for column in COLUMNS])
                    counts[str(row["kind"])] += 1
            file.detach()  # `whole_file` closes the binary file
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from None
    return Written(counts["entity"], counts["reference"])


def _rows(document: ResultLine) -> Iterator[Mapping[str, JsonValue]]:
    verdict = document.get("verdict")  # documents of earlier versions lack it
    if verdict is None:
        return
    job = {"id": document["id"], "group": group_of(document.get("columns", {})) or None, "arrived": verdict["arrived"]}
    for entity in verdict["entities"]:
        yield {**job, "kind": "entity", **cast(Mapping[str, JsonValue], entity)}
    for reference in verdict["references"]:
        yield {**job, "kind": "reference", **cast(Mapping[str, JsonValue], reference)}
