"""The output folder of a batch: its results and errors as shards. One process writes to it at a time.

    DIR/part-00000.jsonl …          result documents, each with its row's id and extra columns
    DIR/errors/part-00000.jsonl …   rows that failed: id, extra columns, code, message, field
    DIR/verdicts.csv                the verdicts, if rows have any; see `verdict_rows`
    DIR/summary.json                the figures of the last run
    DIR/wrong-rows.txt              the wrong rows of the manifest, if there are too many for the console
    DIR/.genseg-batch/              the lock and the fingerprint

The rows that are done are known only from the shards, so no second record can contradict them.
"""

from __future__ import annotations

import errno
import fcntl
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypedDict

from pydantic import JsonValue

from serve_app.batch.fingerprint import Fingerprint, Setting
from serve_app.batch.row import Row
from serve_app.batch.shards import Line, ResultLine, ShardWriter, keep_lines, lines_of, shards
from serve_app.batch.verdict_means import VerdictMeans, VerdictSummary, group_of
from serve_app.batch.whole_file import write_whole
from serve_app.config.models import NONE
from serve_app.errors import GensegError
from serve_app.schemas.dicts import ErrorDict, ResultDict, images_of

STATE = ".genseg-batch"
"""The folder inside an output folder that holds the lock and the fingerprint."""


class Summary(TypedDict):
    """The figures of an output folder, over all runs. Only `images_per_s` and `seconds` are those of the last run.

    `verdict` is null if no result has a verdict.
    """

    rows: int
    done: int
    failed: int
    failed_by_code: dict[str, int]
    left: int
    images: int
    objects: int
    verdict: VerdictSummary | None
    images_per_s: float
    seconds: float


class OutputError(GensegError):
    """An output folder cannot be used; the message names it."""


class OutputFolder:
    """A folder into which the results of a batch are written. Use `open_output` to open it.

    Attributes:
        wrong_rows: path of the file that lists the wrong rows of a manifest.
        done: ids of the rows with a result, as text.
        failed: error code of each row whose last try failed, by the row's id as text.
        images: number of images in all results.
        objects: number of objects in all results.
        verdicts: means over the verdicts of all results.
        fingerprint: the settings and rows of the batch; None before its first run.
    """

    def __init__(self, folder: Path, rows_per_shard: int) -> None:
        self.folder = folder
        self.wrong_rows = folder / "wrong-rows.txt"
        self.done: set[str] = set()
        self.failed: dict[str, str] = {}
        self.images = 0
        self.objects = 0
        self.verdicts = VerdictMeans()
        self._results = ShardWriter(folder, rows_per_shard)
        self._errors = ShardWriter(folder / "errors", rows_per_shard)
        self._error_lines = 0
        try:
            self.fingerprint = Fingerprint.load(folder / STATE)
        except (ValueError, KeyError, OSError) as error:
            raise OutputError(f"{folder}: its {STATE} cannot be used ({error}); choose another folder") from None
        if self.fingerprint is None and shards(folder):
            raise OutputError(f"{folder}: holds shards of something else; choose another folder")
        self._load()

    def begin(self, fingerprint: Fingerprint) -> None:
        """Record the settings and rows of the batch whose results follow.

        Raises:
            OutputError: they cannot be written.
        """
        self.fingerprint = fingerprint
        with _explained(self.folder):
            fingerprint.save(self.folder / STATE)

    def add(self, row: Row, document: ResultDict) -> None:
        """Write a row's result.

        Raises:
            OutputError: it cannot be written, or other models made it than the earlier results.
        """
        self._check_models(document)
        with _explained(self.folder):
            self._results.append(row.id, document, row.columns)
        self._count(document, row.columns)
        self.done.add(row.key)
        self.failed.pop(row.key, None)

    def fail(self, row: Row, error: ErrorDict) -> None:
        """Write a row's error: code, message and field.

        Raises:
            OutputError: it cannot be written.
        """
        with _explained(self.folder):
            self._errors.append(row.id, error, row.columns)
        self._error_lines += 1
        self.failed[row.key] = error["code"]

    def codes(self) -> dict[str, int]:
        """Count the failed rows by code, most frequent first."""
        return dict(sorted(Counter(self.failed.values()).items(), key=lambda each: (-each[1], each[0])))

    def finish(self) -> None:
        """Complete the shards, and remove the errors of rows that have a result or a later error.

        Raises:
            OutputError: the files cannot be written.
        """
        with _explained(self.folder):
            self._results.seal()
            self._errors.seal()
            if self._error_lines != len(self.failed):
                self._drop_old_errors()

    def results(self, rows: Iterable[Row]) -> Iterator[tuple[Row, ResultLine]]:
        """Yield rows with their results, in the order of the rows. Call it after `finish`.

        Args:
            rows: rows without a result are skipped.
        """
        offsets = {line.key: (line.path, line.offset) for line in self._lines()}
        for row in rows:
            if row.key in offsets:
                path, offset = offsets[row.key]
                with path.open("rb") as file:
                    file.seek(offset)
                    yield row, Line(path, offset, file.readline()).result()

    def _lines(self) -> Iterator[Line]:
        for path in shards(self.folder):
            yield from lines_of(path)

    def write_summary(self, summary: Summary) -> Path:
        """Write summary.json and return its path."""
        path = self.folder / "summary.json"
        with _explained(self.folder):
            write_whole(path, json.dumps(summary, indent=2).encode() + b"\n")
        return path

    def _load(self) -> None:
        with _explained(self.folder):
            for line in self._lines():
                self._note_result(line)
            for line in self._results.recover():
                self._note_result(line)
            for path in shards(self.folder / "errors"):
                for line in lines_of(path):
                    self._note_error(line)
            for line in self._errors.recover():
                self._note_error(line)
        for key in self.done & self.failed.keys():
            del self.failed[key]

    def _note_result(self, line: Line) -> None:
        self.done.add(line.key)
        document = line.result()
        self._count(document, document.get("columns", {}))

    def _count(self, document: ResultDict, columns: Mapping[str, JsonValue]) -> None:
        images = images_of(document)
        self.images += len(images)
        self.objects += sum(len(image["objects"] or ()) for image in images)
        verdict = document.get("verdict")  # documents of earlier versions lack it
        if verdict is not None:
            self.verdicts.add(group_of(columns), verdict)

    def _note_error(self, line: Line) -> None:
        self._error_lines += 1
        self.failed[line.key] = line.error()["code"]

    def _check_models(self, document: ResultDict) -> None:
        """Record the models of the first result and of the first verdict; all later ones must have the same models."""
        known = self.fingerprint
        assert known is not None  # begin() comes first
        models, identity = {name: str(value) for name, value in document["meta"]["models"].items()}, _identity(document)
        for kind, before, now in (("results", known.models, models), ("verdicts", known.identity, identity)):
            if before and now and before != now:
                raise OutputError(
                    f"{self.folder}: holds {kind} of {_named(before)}, but the new ones are of {_named(now)}"
                )
        if not known.models or (identity and not known.identity):
            known.models, known.identity = models, identity or known.identity
            with _explained(self.folder):
                known.save_job(self.folder / STATE)

    def _drop_old_errors(self) -> None:
        latest: dict[str, tuple[Path, int]] = {}
        for path in shards(self.folder / "errors"):
            latest.update((line.key, (path, line.offset)) for line in lines_of(path) if line.key in self.failed)
        for path in shards(self.folder / "errors"):
            keep_lines(path, lambda line: latest.get(line.key) == (line.path, line.offset))
        self._error_lines = len(self.failed)


def _identity(document: ResultDict) -> dict[str, Setting]:
    """Return the identity model of a document's verdict and its threshold; empty without a verdict."""
    verdict = document.get("verdict")
    if verdict is None:
        return {}
    identity = verdict["identity"]
    return {"model": NONE} if identity is None else {"model": identity["model"], "threshold": identity["threshold"]}


def _named(models: Mapping[str, Setting]) -> str:
    return ", ".join(f"threshold {value}" if name == "threshold" else str(value) for name, value in models.items())


@contextmanager
def open_output(folder: Path, rows_per_shard: int) -> Iterator[OutputFolder]:
    """Open an output folder for one run, and complete its shards when the block ends.

    Args:
        folder: the folder; it is created if it does not exist.
        rows_per_shard: number of lines after which a shard is complete.

    Raises:
        OutputError: another process writes there now, the folder holds something else, or it cannot be written.
    """
    try:
        (folder / STATE).mkdir(parents=True, exist_ok=True)
        lock = (folder / STATE / "lock").open("ab")
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from None
    with lock:
        _take(lock, folder)
        output = OutputFolder(folder, rows_per_shard)
        try:
            yield output
        finally:
            output.finish()


def _take(lock: BinaryIO, folder: Path) -> None:
    """Take the lock. The system releases it when the process ends, also if it is killed."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            raise OutputError(f"{folder}: another job writes there at this moment") from None
        raise OutputError(f"{folder}: cannot be locked: {error.strerror or error}") from None


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{error.filename or folder}: {error.strerror or error}") from None
