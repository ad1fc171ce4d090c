"""Finds out before the work whether its results can be written: hours of work must not end at a missing folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from serve_app.batch.whole_file import whole_file
from serve_app.cli.options import CommandError

STANDARD_OUTPUT = "-"
"""Names standard output in the place of a file."""


class _NotNow(Exception):
    """Ends the trial before the file is replaced."""


def check_file(flag: str, path: Path, inputs: Iterable[str] = ()) -> None:
    """Find out whether a file can be written, by the way in which it will be: beside it, and then in its place.

    Args:
        flag: that names it, for messages.
        path: of the file; it and what it holds stay as they are.
        inputs: paths that are read, none of which it may be.

    Raises:
        CommandError: it cannot be written, or is one of the inputs.
    """
    try:
        if path.is_dir():
            raise CommandError(f"{flag} {path}: is a folder")
        if not path.resolve().parent.is_dir():
            raise CommandError(f"{flag} {path}: there is no folder {path.resolve().parent}")
        if path.exists() and any(Path(each).exists() and path.samefile(each) for each in inputs):
            raise CommandError(f"{flag} {path}: is one of the images; it would be overwritten")
        if path.exists() and not path.is_file():  # a pipe waits for its reader, and a device keeps nothing
            if not os.access(path, os.W_OK):
                raise CommandError(f"{flag} {path}: cannot be written")
            return
        with whole_file(path):
            raise _NotNow
    except _NotNow:
        return
    except (OSError, ValueError, RuntimeError) as error:  # ValueError: a NUL; RuntimeError: links in a circle
        raise CommandError(f"{flag} {path}: {_reason(error)}") from None


def check_folder(flag: str, folder: Path) -> None:
    """Find out whether files can be written into a folder, which may be missing; nothing is left behind.

    Raises:
        CommandError: they cannot, or it is a file.
    """
    try:
        nearest = next(each for each in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(each))
        if not nearest.is_dir():
            what = "is a file, not a folder" if nearest == folder.absolute() else f"{nearest} is a file, not a folder"
            raise CommandError(f"{flag} {folder}: {what}")
        with tempfile.TemporaryDirectory(prefix=".genseg-", dir=nearest):
            return
    except (OSError, ValueError) as error:
        raise CommandError(f"{flag} {folder}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return "cannot be written" if text == "No such file or directory" else f"cannot be written: {text}"
