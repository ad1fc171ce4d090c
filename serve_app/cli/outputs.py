"""Checks that results can be written, before the work starts."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from serve_app.batch.whole_file import whole_file
from serve_app.cli.options import CommandError

STANDARD_OUTPUT = "-"
"""Stands for standard output in place of a file's name."""


class _NotNow(Exception):
    """Raised inside `whole_file`, so that it does not replace the file."""


def check_file(flag: str, path: Path, inputs: Iterable[str] = ()) -> None:
    """Check that a file can be written. To try it, a temporary file is made beside it and deleted again.

    Args:
        flag: the flag that names the file, for messages.
        path: the file.
        inputs: paths of the images; the file must not be one of them.

    Raises:
        CommandError: the file cannot be written, or it is one of the inputs.
    """
    try:
        if path.is_dir():
            raise CommandError(f"{flag} {path}: is a folder")
        if not path.resolve().parent.is_dir():
            raise CommandError(f"{flag} {path}: there is no folder {path.resolve().parent}")
        if path.exists() and any(Path(each).exists() and path.samefile(each) for each in inputs):
            raise CommandError(f"{flag} {path}: is one of the images; it would be overwritten")
        if path.exists() and not path.is_file():  # a pipe or a device: opening a pipe would wait for its reader
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
    """Check that files can be written into a folder, which may not exist yet. The folder is not made.

    Args:
        flag: the flag that names the folder, for messages.
        folder: the folder.

    Raises:
        CommandError: files cannot be written there, or the path is a file.
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
