"""Compares the manifest with the output folder, and decides which rows a run processes. Starts nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from serve_app.batch.fingerprint import Fingerprint, Setting, settings_difference
from serve_app.batch.manifest import MAX_SHOWN, PlacedRow, check_rows, read_rows
from serve_app.batch.output import OutputError, OutputFolder
from serve_app.batch.row import ManifestError, Row, digest
from serve_app.batch.source_names import scheme_of
from serve_app.batch.sources import check_schemes


@dataclass(frozen=True)
class Plan:
    """The work of one run.

    Attributes:
        manifest: path of the manifest.
        name: the manifest's name in messages.
        rows: number of rows in the manifest.
        left: number of rows that this run processes.
        redo: ids of the failed rows that this run processes again.
        mask_formats: the mask formats for which rows ask.
    """

    manifest: Path
    name: str
    rows: int
    left: int
    redo: frozenset[str]
    mask_formats: frozenset[str]

    def pending(self, output: OutputFolder) -> Iterator[Row]:
        """Read the manifest again and yield the rows that this run processes.

        Args:
            output: the folder that the plan was made with. Results may be added to it during the iteration.

        Raises:
            ManifestError: the file changed since it was checked.
        """
        for placed in read_rows(self.manifest, self.name):
            key = placed.row.key
            if key not in output.done and (key not in output.failed or key in self.redo):
                yield placed.row


@dataclass
class _Seen:
    """The findings of one pass over the manifest."""

    rows: dict[int, int] = field(default_factory=dict)
    schemes: set[str | None] = field(default_factory=set)
    mask_formats: set[str] = field(default_factory=set)
    changed: list[PlacedRow] = field(default_factory=list)
    redo: set[str] = field(default_factory=set)
    left: int = 0


def make_plan(
    manifest: Path,
    output: OutputFolder,
    settings: Mapping[str, Setting],
    retry_errors: bool,
    *,
    defaults: Mapping[str, Setting] = MappingProxyType({}),
    name: str | None = None,
    recorded: Path | None = None,
) -> Plan:
    """Check a manifest, find the rows without a result, and record the settings and rows in the folder.

    Since the folder's last run, rows may have been added, and rows without a result may have changed. A failed row that
    changed is processed again.

    Args:
        manifest: path of the manifest.
        output: the open output folder.
        settings: flags and configuration keys that influence the results.
        retry_errors: whether to process failed rows again.
        defaults: default values of the settings. A setting that the folder does not record counts as its default.
        name: the manifest's name in messages; None for its path.
        recorded: the path that the folder records as its manifest; None if the file is deleted after the run.

    Raises:
        ManifestError: rows are wrong, or a package that reads their images is missing.
        OutputError: the folder holds results of other rows or other settings.
    """
    before = output.fingerprint or Fingerprint()
    difference = settings_difference(before, settings, defaults)
    if difference:
        raise OutputError(f"{output.folder}: was written {difference}; choose another folder, or use its settings")
    shown = name or str(manifest)
    seen = _read(manifest, shown, output, before, retry_errors)
    _check_same_rows(shown, output, seen)
    check_schemes(seen.schemes)
    for key in [key for key in output.failed if digest(key) not in seen.rows]:
        del output.failed[key]  # the row is no longer in the manifest
    settings = {**before.settings, **settings}
    kept = None if recorded is None else str(recorded.resolve())
    output.begin(replace(before, settings=settings, rows=seen.rows, manifest=kept))
    return Plan(manifest, shown, len(seen.rows), seen.left, frozenset(seen.redo), frozenset(seen.mask_formats))


def _read(manifest: Path, name: str, output: OutputFolder, before: Fingerprint, retry_errors: bool) -> _Seen:
    seen = _Seen()
    for placed in check_rows(manifest, name, output.wrong_rows):
        row = placed.row
        identity, content = digest(row.key), row.digest()
        seen.rows[identity] = content
        seen.schemes.update(map(scheme_of, row.sources))
        seen.mask_formats.add(row.mask_format)
        same = before.rows.get(identity, content) == content
        if row.key in output.done:
            if not same:
                seen.changed.append(placed)
            continue
        if row.key in output.failed:
            if same and not retry_errors:
                continue
            seen.redo.add(row.key)
        seen.left += 1
    return seen


def _check_same_rows(manifest: str, output: OutputFolder, seen: _Seen) -> None:
    advice = "choose another folder, or give these rows new ids"
    if seen.changed:
        named = ", ".join(f"line {placed.line} (id {placed.row.key!r})" for placed in seen.changed[:MAX_SHOWN])
        more = f" and {len(seen.changed) - MAX_SHOWN} more" if len(seen.changed) > MAX_SHOWN else ""
        raise OutputError(f"{output.folder}: was made with other rows: {manifest}: {named}{more} changed; {advice}")
    gone = [key for key in output.done if digest(key) not in seen.rows]
    if gone:
        raise OutputError(
            f"{output.folder}: holds results of {len(gone)} rows, such as {gone[0]!r}, that {manifest} does not have; "
            "choose another folder"
        )
    if len(seen.rows) < 1:
        raise ManifestError(f"{manifest}: the manifest has no rows")
