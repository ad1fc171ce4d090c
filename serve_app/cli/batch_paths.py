"""Checks the paths that `genseg batch` is given, and copies a manifest that comes through a pipe into a file."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serve_app.batch import verdict_rows
from serve_app.batch.output import STATE
from serve_app.batch.source_names import scheme_of, shown
from serve_app.cli.options import CommandError
from serve_app.cli.outputs import check_file, check_folder

_RESULTS = frozenset({"summary.json", "wrong-rows.txt", verdict_rows.FILE_NAME})
_FOLDERS = frozenset({"errors", STATE})
"""Folders inside the folder of the results in which only `genseg batch` writes."""


@dataclass(frozen=True)
class ManifestFile:
    """A manifest that can be read more than once.

    Attributes:
        path: the file.
        name: the file's name in messages.
        folder: where relative paths in the manifest start.
        recorded: the path that the output folder records; None for a pipe, whose file is deleted after the job.
    """

    path: Path
    name: str
    folder: Path
    recorded: Path | None = None


@contextmanager
def opened_manifest(given: str) -> Iterator[ManifestFile]:
    """Yield the manifest. A manifest that comes through a pipe is kept in a temporary file until the block ends.

    Args:
        given: a path; `-` and `/dev/stdin` are standard input, whose relative paths start in the current folder.

    Raises:
        CommandError: there is no such file, or it cannot be read.
    """
    path = Path(given)
    if given != "-" and path.is_dir():
        raise CommandError(f"{given}: a folder; MANIFEST is one file: JSONL, JSON, CSV or Parquet")
    if given != "-" and not path.exists():
        raise CommandError(f"{given}: there is no such file")
    if given != "-" and path.is_file() and not given.startswith("/dev/"):
        yield ManifestFile(path, given, path.resolve().parent, path)
        return
    with tempfile.NamedTemporaryFile(prefix="genseg-manifest-") as kept:
        try:
            with open(0, "rb", closefd=False) if given == "-" else path.open("rb") as source:
                shutil.copyfileobj(source, kept)
        except OSError as error:
            raise CommandError(f"{given}: {error.strerror or error}") from None
        kept.flush()
        name = "standard input" if given in {"-", "/dev/stdin"} else given
        yield ManifestFile(Path(kept.name), name, Path.cwd())


def check_paths(manifest: str, output: str, coco: str | None) -> None:
    """Check before the job starts that its results can be written.

    Args:
        manifest: the manifest, as given on the command line.
        output: the folder of the results; may not exist yet.
        coco: the COCO file; its folder may not exist yet if it is inside `output`.

    Raises:
        CommandError: a path cannot be used. The message names the flag.
    """
    for flag, value in (("MANIFEST", manifest), ("--output", output), ("--coco", coco)):
        if value and scheme_of(value):
            where = f"{flag} {shown(value)}"
            raise CommandError(f"{where}: must be a path, because only images may be URIs; mount the store", usage=True)
    if manifest == "-" and sys.stdin is None:
        raise CommandError("-: there is no standard input")
    check_folder("--output", Path(output))
    if coco:
        _check_coco(coco, Path(output).resolve(), manifest)


def _check_coco(coco: str, output: Path, manifest: str) -> None:
    path = Path(coco).resolve()
    check_not_a_result("--coco", coco, output)
    if manifest != "-" and path == Path(manifest).resolve():
        raise CommandError(f"--coco {coco}: is the manifest; it would be overwritten")
    if output in path.parents and not path.parent.is_dir():
        check_folder(f"--coco {coco}:", path.parent)
    else:
        check_file("--coco", Path(coco))


def check_not_a_result(flag: str, given: str, results: Path) -> None:
    """Refuse a file that belongs to the results, or that would later be read as a file of the results.

    Args:
        flag: the flag that names the file, for messages.
        given: the file, as on the command line.
        results: the folder of the results, resolved.

    Raises:
        CommandError: the results have a file of that name.
    """
    path = Path(given).resolve()
    if not path.is_relative_to(results):
        return
    first, *rest = path.relative_to(results).parts or (".",)
    is_file = not rest and (first in _RESULTS or first.startswith(("part-", ".part-")))
    if first in _FOLDERS or is_file:
        raise CommandError(f"{flag} {given}: the results have a file of that name; choose another")
