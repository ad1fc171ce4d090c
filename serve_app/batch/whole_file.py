"""Replaces files atomically: a reader sees the old file or the new one, never a part of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

UNFINISHED = ".unfinished"
"""Ending of the hidden file that is written first, in the same folder. The file remains only if the process is
killed."""


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that replaces `path` when the block ends. If the block raises, `path` stays as it was.

    Args:
        path: the file to replace. If it is a link, the file to which it points is replaced. A pipe or a device is
            written directly.

    Yields:
        The open file.

    Raises:
        OSError: it cannot be written.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    target = path.resolve()
    unfinished = target.with_name(f".{target.name}{UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)  # it exists after a failure only


def write_whole(path: Path, data: bytes) -> None:
    """Replace a small file, as `whole_file` does.

    Raises:
        OSError: it cannot be written.
    """
    with whole_file(path) as file:
        file.write(data)
