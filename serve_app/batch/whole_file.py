"""Files that are written whole: a reader sees the old file or the new one, never half of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

UNFINISHED = ".unfinished"
"""Ending of the hidden file beside it that is written first; it stays only where the process is killed."""


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing; it takes its place when the block ends, and is dropped if the block raises.

    Args:
        path: of the file. A link stays a link, and what it points at is replaced. A pipe or a device is written
            directly.

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
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)  # there after a failure only


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file as `whole_file` does.

    Raises:
        OSError: it cannot be written.
    """
    with whole_file(path) as file:
        file.write(data)
