"""Reads and writes shards: the files `part-00000.jsonl`, `part-00001.jsonl`, … of a folder.

A shard is written as a hidden file, `.part-00000.jsonl.partial`, and renamed when it is complete. Lines are appended
and flushed one by one, so a killed process loses at most the line that it was writing, and the next process continues
the same file. A power cut may lose more lines of an incomplete shard. A line is a JSON object. Its first key is `id`;
the second is `columns` if the row has extra columns (see `row`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NotRequired, cast

from pydantic import JsonValue

from serve_app.batch.whole_file import UNFINISHED, whole_file
from serve_app.schemas.dicts import ErrorDict, ResultDict

_SHARD = re.compile(r"part-(\d{5,})\.jsonl")
_PARTIAL = re.compile(r"\.part-(\d{5,})\.jsonl\.partial")
_ID_START = b'{"id": '
_COLUMNS_START = ', "columns": '
_DECODER = json.JSONDecoder()
_LONGEST_ID = 8192  # bytes, including the next key; an id has up to 1024 characters of at most 6 bytes (\uXXXX)


class ResultLine(ResultDict):
    """A row's result document, with the row's id and its extra columns."""

    id: str | int
    columns: NotRequired[dict[str, JsonValue]]


class ErrorLine(ErrorDict):
    """A row's error, with the row's id and its extra columns."""

    id: str | int
    columns: NotRequired[dict[str, JsonValue]]


@dataclass(frozen=True)
class Line:
    """One line of a shard: its file, its offset in bytes, and its undecoded text."""

    path: Path
    offset: int
    raw: bytes

    @property
    def key(self) -> str:
        """The line's id as text, read without parsing the rest of the JSON."""
        text = self.raw[len(_ID_START) : len(_ID_START) + _LONGEST_ID].decode("utf-8", "ignore")
        return str(_DECODER.raw_decode(text)[0])

    @property
    def columns(self) -> dict[str, JsonValue]:
        """The row's extra columns, read without parsing the rest of the JSON."""
        start = self.raw[:_LONGEST_ID].decode("utf-8", "ignore")
        _, end = _DECODER.raw_decode(start, len(_ID_START))
        if not start.startswith(_COLUMNS_START, end):
            return {}
        text = self.raw.decode("utf-8", "replace")
        columns: dict[str, JsonValue] = _DECODER.raw_decode(text, end + len(_COLUMNS_START))[0]
        return columns

    def result(self) -> ResultLine:
        """Decode a line of the results."""
        return cast(ResultLine, json.loads(self.raw))

    def error(self) -> ErrorLine:
        """Decode a line of the errors."""
        return cast(ErrorLine, json.loads(self.raw))


class ShardWriter:
    """Appends lines to a folder of shards. The caller must make sure that no other process does.

    Args:
        folder: folder of the shards; it is created with the first line.
        rows_per_shard: number of lines after which a shard is complete.
    """

    def __init__(self, folder: Path, rows_per_shard: int) -> None:
        self._folder = folder
        self._rows_per_shard = rows_per_shard
        self._index = 1 + max((_index(path) for path in shards(folder)), default=-1)
        self._rows = 0
        self._file: BinaryIO | None = None

    def recover(self) -> Iterator[Line]:
        """Continue the shard that an earlier process left unfinished, and delete temporary files.

        Call this before `append`, and read it to its end.

        Yields:
            The lines of that shard before the first damaged one. The file is cut off there.
        """
        for path in _entries(self._folder):
            if path.name.startswith(".") and path.name.endswith(UNFINISHED):
                path.unlink()
        for path in _partials(self._folder):
            self.seal()
            self._index = max(self._index, _index(path))
            end = 0
            for line in lines_of(path):
                if not _is_whole(line.raw):
                    break
                end = line.offset + len(line.raw)
                self._rows += 1
                yield line
            os.truncate(path, end)
            if self._rows:
                self._file = path.open("ab")
            else:
                path.unlink()
        if self._rows >= self._rows_per_shard:
            self.seal()

    def append(
        self,
        identifier: str | int,
        document: ResultDict | ErrorDict,
        columns: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """Write one line and flush it, so that it survives the end of this process.

        Args:
            identifier: the row's id, the first key of the line.
            document: the other keys; it must not have the keys `id` and `columns`.
            columns: the row's extra columns. Without any, the line has no key `columns`.

        Raises:
            OSError: the line cannot be written, for example because the disk is full.
        """
        own = {"id": identifier, **({"columns": {**columns}} if columns else {})}
        line = json.dumps({**own, **document}, ensure_ascii=False, allow_nan=False)
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = self._partial.open("ab")
        self._file.write(line.encode("utf-8", "backslashreplace") + b"\n")
        self._file.flush()
        self._rows += 1
        if self._rows >= self._rows_per_shard:
            self.seal()

    def seal(self) -> None:
        """Complete the shard that is being written, if there is one: rename its file."""
        if self._file is None:
            return
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.replace(self._folder / f"part-{self._index:05d}.jsonl")
        _sync_folder(self._folder)
        self._file, self._rows, self._index = None, 0, self._index + 1

    @property
    def _partial(self) -> Path:
        return self._folder / f".part-{self._index:05d}.jsonl.partial"


def shards(folder: Path) -> list[Path]:
    """Return a folder's complete shards in order; empty if the folder does not exist."""
    found = [path for path in _entries(folder) if _SHARD.fullmatch(path.name)]
    return sorted(found, key=_index)


def lines_of(path: Path) -> Iterator[Line]:
    """Yield the lines of a shard."""
    offset = 0
    with path.open("rb") as file:
        for raw in file:
            yield Line(path, offset, raw)
            offset += len(raw)


def readable_lines(folder: Path) -> Iterator[Line]:
    """Yield the lines of a folder's complete shards, and the complete lines of the shard that is being written."""
    unfinished = [*_partials(folder)]  # listed first, so that a shard completed in between is not missed
    whole = shards(folder)
    for path in whole:
        yield from lines_of(path)
    for path in unfinished:
        sealed = _sealed(path)
        if sealed in whole:
            continue
        for line in lines_of(path if path.exists() else sealed):
            if not _is_whole(line.raw):
                break
            yield line


def _sealed(partial: Path) -> Path:
    return partial.with_name(partial.name.removeprefix(".").removesuffix(".partial"))


def keep_lines(path: Path, keep: Callable[[Line], bool]) -> None:
    """Rewrite a shard with only the lines for which `keep` is true; remove it if there is none."""
    if not any(keep(line) for line in lines_of(path)):
        path.unlink()
        return
    with whole_file(path) as file:
        file.writelines(line.raw for line in lines_of(path) if keep(line))


def _is_whole(raw: bytes) -> bool:
    if not (raw.startswith(_ID_START) and raw.endswith(b"}\n")):
        return False
    try:
        json.loads(raw)
    except ValueError:
        return False
    return True


def _partials(folder: Path) -> list[Path]:
    return sorted(path for path in _entries(folder) if _PARTIAL.fullmatch(path.name))


def _entries(folder: Path) -> list[Path]:
    return [*folder.iterdir()] if folder.is_dir() else []


def _index(path: Path) -> int:
    match = _SHARD.fullmatch(path.name) or _PARTIAL.fullmatch(path.name)
    assert match is not None
    return int(match.group(1))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
