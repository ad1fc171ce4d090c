"""Reads and checks the rows of a manifest in JSON, CSV or Parquet. Opens no image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from serve_app.batch.formats import records
from serve_app.batch.json_rows import Record
from serve_app.batch.row import ManifestError, Row, digest, read_row

__all__ = ["MAX_SHOWN", "ManifestError", "PlacedRow", "Row", "check_rows", "digest", "read_rows"]

MAX_SHOWN = 20


@dataclass(frozen=True)
class PlacedRow:
    """A checked row and its line in the file, from 1; in a JSON array and in Parquet, the row's number, from 1."""

    line: int
    row: Row


def read_rows(path: Path, name: str | None = None) -> Iterator[PlacedRow]:
    """Read a manifest row by row; blank lines are skipped.

    Args:
        path: path of the manifest.
        name: its name in messages; None for the path.

    Raises:
        ManifestError: the file cannot be read, or a row is wrong; the message names the line.
    """
    shown = name or str(path)
    for record in records(path, shown):
        yield _placed(record, shown)


def check_rows(path: Path, name: str | None = None, all_wrong: Path | None = None) -> Iterator[PlacedRow]:
    """Read a manifest row by row, and report all wrong rows at the end.

    Args:
        path: path of the manifest.
        name: its name in messages; None for the path.
        all_wrong: file that lists every wrong row if there are more than `MAX_SHOWN`; an old file is removed.

    Raises:
        ManifestError: the file cannot be read; or, after the last row: rows are wrong, an id occurs twice, or there are
            no rows.
    """
    shown = name or str(path)
    lines: dict[str, int] = {}
    with _Wrong(shown, all_wrong) as wrong:
        for record in records(path, shown):
            try:
                placed = _placed(record, shown)
                first = lines.setdefault(placed.row.key, placed.line)
                if first != placed.line:
                    where = f"{shown}:{placed.line}"
                    raise ManifestError(f"{where}: the id {placed.row.key!r} is already used in line {first}")
            except ManifestError as error:
                wrong.add(error.message)
                continue
            yield placed
    wrong.raise_any()
    if not lines:
        raise ManifestError(f"{shown}: the manifest has no rows")


def _placed(record: Record, name: str) -> PlacedRow:
    line, values = record
    try:
        if isinstance(values, str):
            raise ManifestError(values)
        return PlacedRow(line, read_row(values))
    except ManifestError as error:
        raise ManifestError(f"{name}:{line}: {error.message}") from None


class _Wrong:
    """Collects the messages about wrong rows.

    The first `MAX_SHOWN` messages are in memory. If there are more, all of them are in a file.
    """

    def __init__(self, name: str, path: Path | None) -> None:
        self._name = name
        self._path = path
        self._file: IO[str] | None = None
        self._first: list[str] = []
        self._count = 0

    def __enter__(self) -> _Wrong:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, message: str) -> None:
        """Note one wrong row."""
        self._count += 1
        if self._count <= MAX_SHOWN:
            self._first.append(message)
            return
        if self._path is not None and self._file is None:
            self._file = self._path.open("w", encoding="utf-8", errors="backslashreplace")
            self._file.writelines(f"{each}\n" for each in self._first)
        if self._file is not None:
            self._file.write(f"{message}\n")

    def raise_any(self) -> None:
        """Raise an error if any row is wrong.

        Raises:
            ManifestError: the message has the first wrong rows, and names the file that lists all.
        """
        more = self._count - MAX_SHOWN
        if more > 0:
            where = "" if self._path is None else f"; {self._path} names all {self._count}"
            self._first.append(f"{self._name}: {more} more rows are wrong{where}")
        if self._first:
            raise ManifestError("\n".join(self._first))
