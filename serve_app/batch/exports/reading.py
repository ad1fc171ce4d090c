"""Reads results for `genseg export` and `genseg view`: from the output folder of a batch, or from a file of documents.

Result documents are read one at a time. The ids and the failed rows of a folder are all in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import JsonValue, ValidationError

from serve_app.batch.exports.jobs import Job, job_of_result, job_of_row
from serve_app.batch.exports.parquet_documents import parquet_documents
from serve_app.batch.fingerprint import Fingerprint
from serve_app.batch.manifest import read_rows
from serve_app.batch.output import STATE, OutputError
from serve_app.batch.row import Row, digest
from serve_app.batch.shards import ErrorLine, Line, ResultLine, lines_of, readable_lines
from serve_app.schemas.base import field_path
from serve_app.schemas.documents import ErrorBody, ResultDocument

_PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True)
class Results:
    """Results that can be read more than once.

    Attributes:
        name: name of the folder or file.
        folder: the folder from which relative paths of pictures start.
        jobs: yields the results in the order in which they are stored. JSONL results of a folder with a manifest are
            yielded in the order of the manifest.
        failures: yields the rows that failed.
        files: the manifest of the folder, if it is known, or the file itself. An export must not overwrite them, nor
            the files of the folder's results.
        notes: hints for the user, one sentence each.
    """

    name: str
    folder: Path
    jobs: Callable[[], Iterator[Job]]
    failures: Callable[[], Iterator[ErrorLine]]
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def open_results(path: Path, manifest: Path | None = None) -> Results:
    """Open results.

    Args:
        path: the output folder of a batch, a JSON file with one document, a JSONL file with one document on each
            line, or a Parquet file of `genseg batch`.
        manifest: the manifest of the batch; None for the one that the folder records.

    Raises:
        OutputError: there are no results, or they cannot be read.
        ManifestError: the given manifest cannot be used.
    """
    try:
        if path.is_dir():
            return _open_folder(path, manifest)
        if manifest is not None:
            raise OutputError(
                f"--manifest {manifest}: only an output folder of a batch has a manifest; {path} is a file"
            )
        if not path.exists():
            raise OutputError(f"{path}: there is no such file or folder")
        return _open_file(path)
    except OSError as error:
        raise OutputError(f"{error.filename or path}: {error.strerror or error}") from None


def _open_folder(folder: Path, given: Path | None) -> Results:
    tables = sorted(folder.glob("part-*.parquet"))
    is_jsonl = next(readable_lines(folder), None) is not None
    if not is_jsonl and not tables and next(readable_lines(folder / "errors"), None) is None:
        raise OutputError(f"{folder}: holds no results of genseg batch (part-*.jsonl or part-*.parquet)")
    recorded = _fingerprint(folder)
    manifest = given or (Path(recorded.manifest) if recorded.manifest else None)
    notes: tuple[str, ...] = ()
    if manifest is not None and not manifest.is_file():
        if given:
            raise OutputError(f"--manifest {given}: there is no such file")
        notes = (f"the folder's manifest {manifest} does not exist; if you moved it, give its path with --manifest",)
        manifest = None
    elif manifest is None:
        notes = ("the folder does not record its manifest; give the manifest's path with --manifest",)

    def results() -> Iterator[ResultLine]:
        if is_jsonl:
            yield from (_result_of(line) for line in readable_lines(folder))
        else:
            yield from (document for table in tables for document in parquet_documents(table))

    def failures() -> Iterator[ErrorLine]:
        done = {str(document["id"]) for document in results()} if not is_jsonl else _keys(folder)
        latest = {line.key: line for line in readable_lines(folder / "errors")}
        yield from (line.error() for key, line in latest.items() if key not in done)

    if manifest is None:
        return Results(str(folder), folder.resolve(), _jobs_without_rows(results, folder), failures, (), notes)
    base = manifest.resolve().parent
    jobs = (
        _in_manifest_order(folder, manifest, recorded, is_given=given is not None)
        if is_jsonl
        else _jobs_without_rows(results, base)
    )
    return Results(str(folder), base, jobs, failures, (manifest,))


def _fingerprint(folder: Path) -> Fingerprint:
    try:
        return Fingerprint.load(folder / STATE) or Fingerprint()
    except (ValueError, KeyError, OSError):
        return Fingerprint()  # damaged, or of another version; the results can be read without it


def _keys(folder: Path) -> set[str]:
    return {line.key for line in readable_lines(folder)}


def _in_manifest_order(
    folder: Path, manifest: Path, recorded: Fingerprint, *, is_given: bool
) -> Callable[[], Iterator[Job]]:
    """Return a function that yields the results in the order of the manifest, then the results without a row.

    A result has no row if the row is missing from the manifest or has changed since the batch.
    """

    def jobs() -> Iterator[Job]:
        lines = {line.key: (line.path, line.offset) for line in readable_lines(folder)}
        results = len(lines)
        for placed in read_rows(manifest):
            found = lines.get(placed.row.key)
            if found is None or not _is_unchanged(placed.row, recorded):
                continue
            del lines[placed.row.key]
            document = _result_of(_line_at(*found))
            if not _fits(placed.row, document):
                differ = "its numbers of contextual and generated images differ from those of its result"
                raise OutputError(f"{manifest}:{placed.line}: {differ} in {folder}")
            yield job_of_row(placed.row, document, manifest.resolve().parent)
        if is_given and results and len(lines) == results:
            raise OutputError(f"--manifest {manifest}: none of its rows has a result in {folder}")
        for path, offset in lines.values():
            document = _result_of(_line_at(path, offset))
            yield _job_without_row(document, manifest.resolve().parent)

    return jobs


def _is_unchanged(row: Row, recorded: Fingerprint) -> bool:
    """Tell whether the batch ran the row as it is now; true if the folder does not record the row."""
    return recorded.rows.get(digest(row.key), row.digest()) == row.digest()


def _fits(row: Row, document: ResultLine) -> bool:
    """Tell whether the row and its result have the same numbers of contextual and generated images."""
    has_generated = document["generated_image"] is not None
    return len(row.contextual) == len(document["contextual_images"]) and (row.generated is not None) == has_generated


def _line_at(path: Path, offset: int) -> Line:
    with path.open("rb") as file:
        file.seek(offset)
        return Line(path, offset, file.readline())


def _open_file(path: Path) -> Results:
    with path.open("rb") as file:
        is_parquet = file.read(4) == _PARQUET_MAGIC

    def lines() -> Iterator[ResultLine | ErrorLine]:
        if is_parquet:
            yield from parquet_documents(path)
        else:
            yield from _documents_of(path)

    def results() -> Iterator[ResultLine]:
        yield from (cast(ResultLine, each) for each in lines() if "entities" in each)

    def failures() -> Iterator[ErrorLine]:
        yield from (each for each in lines() if "entities" not in each)

    if not is_parquet and next(lines(), None) is None:
        raise OutputError(f"{path}: is empty")
    folder = path.resolve().parent
    return Results(str(path), folder, _jobs_without_rows(results, folder), failures, (path,))


def _documents_of(path: Path) -> Iterator[ResultLine | ErrorLine]:
    """Read a file that is one document, maybe over several lines, or that has one document on each line."""
    lines = (line for line in lines_of(path) if line.raw.strip(b"\xef\xbb\xbf \t\r\n"))
    first = next(lines, None)
    if first is None:
        return
    value = _decoded(first.raw)
    if value is None:
        value = _decoded(path.read_bytes())
        if value is None:
            raise OutputError(f"{path}: is neither one JSON document nor one document on each line")
        yield _checked(value, str(path))
        return
    yield _checked(value, f"{path}:1")
    for number, line in enumerate(lines, 2):
        value = _decoded(line.raw)
        if value is None:
            raise OutputError(f"{path}:{number}: is not JSON")
        yield _checked(value, f"{path}:{number}")


def _decoded(raw: bytes) -> object | None:
    try:
        value: object = json.loads(raw.decode("utf-8-sig"))
        return value
    except (ValueError, RecursionError):
        return None


def _result_of(line: Line) -> ResultLine:
    place = f"{line.path}, byte {line.offset}"
    value = _decoded(line.raw)
    if value is None:
        raise OutputError(f"{place}: is not JSON")
    checked = _checked(value, place)
    if "entities" not in checked:
        raise OutputError(f"{place}: is not a result document, but an error")
    return cast(ResultLine, checked)


def _checked(value: object, place: str) -> ResultLine | ErrorLine:
    """Check a result document or an error, and return it. Unknown keys are kept.

    An error may have the form of an HTTP answer, `{"error": {...}}`. It is returned with the keys of a batch's error.
    """
    if not isinstance(value, Mapping):
        raise OutputError(f"{place}: is not a result document, but {type(value).__name__}")
    if "entities" not in value and isinstance(value.get("error"), Mapping):
        value = {**value, **value["error"]}
    is_error = "entities" not in value and value.keys() >= {"code", "message"}
    try:
        (ErrorBody if is_error else ResultDocument).model_validate(value, extra="ignore")
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = field_path(first["loc"])
        raise OutputError(f"{place}: is not a result document: {where}: {first['msg']}") from None
    return cast("ResultLine | ErrorLine", value)


def _jobs_without_rows(results: Callable[[], Iterator[ResultLine]], folder: Path) -> Callable[[], Iterator[Job]]:
    def jobs() -> Iterator[Job]:
        yield from (_job_without_row(document, folder) for document in results())

    return jobs


def _job_without_row(document: ResultLine, folder: Path) -> Job:
    """Build a job from a document alone.

    Only a document of a batch has an id. Its paths come from a manifest, so equal paths mean the same file.
    """
    given_id: object = document.get("id", document["meta"]["request_id"])
    job_id = given_id if isinstance(given_id, str | int) else str(given_id)
    columns: object = document.get("columns", {})
    named = cast("dict[str, JsonValue]", columns) if isinstance(columns, dict) else {}
    return job_of_result(job_id, document, folder, named, same_path_same_file="id" in document)
