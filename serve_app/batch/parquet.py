"""Writes a Parquet file beside each shard of results: `part-00000.jsonl` gives `part-00000.parquet`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from serve_app.batch.output import OutputError
from serve_app.batch.parquet_schema import Contents, job_row, schema
from serve_app.batch.shards import lines_of, shards
from serve_app.batch.whole_file import whole_file


def load_pyarrow() -> Any:
    """Import and return pyarrow.

    Raises:
        OutputError: it is not installed.
    """
    try:
        importlib.import_module("pyarrow.parquet")
        return importlib.import_module("pyarrow")
    except ImportError:
        raise OutputError("writing Parquet needs the package pyarrow: pip install 'genseg[batch]'") from None


def write_missing(folder: Path) -> int:
    """Write the Parquet file of every shard that has no Parquet file, or one with another schema.

    All files of a folder have the same schema, see `parquet_schema`. It depends on the rows' extra columns and on their
    mask formats, so existing files are rewritten if later rows add some. One shard at a time is in memory.

    Returns:
        The number of files that were written.

    Raises:
        OutputError: pyarrow is missing, or a file cannot be written.
    """
    pyarrow = load_pyarrow()
    contents = Contents()
    for shard in shards(folder):
        for line in lines_of(shard):
            contents.note(line)
    wanted = schema(pyarrow, contents)
    written = 0
    for shard in shards(folder):
        target = shard.with_suffix(".parquet")
        if _has(pyarrow, target, wanted):
            continue
        rows = [job_row(line.result(), contents) for line in lines_of(shard)]
        try:
            with whole_file(target) as file:
                pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=wanted), file, compression="zstd")
        except OSError as error:
            raise OutputError(f"{target}: {error.strerror or error}") from None
        written += 1
    return written


def _has(pyarrow: Any, path: Path, wanted: Any) -> bool:
    try:
        return path.exists() and bool(pyarrow.parquet.read_schema(path).equals(wanted))
    except (OSError, ValueError):  # pyarrow.ArrowInvalid is a ValueError; a broken file is rewritten
        return False
