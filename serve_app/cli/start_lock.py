"""Makes services start one after the other on a machine. If two started at once, each would start its own Ray."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serve_app.cli.console import Progress
from serve_app.cli.options import CommandError


@contextmanager
def one_at_a_time(progress: Progress, path: Path | None = None) -> Iterator[None]:
    """Hold the lock while the block runs. The system releases the lock of a process that dies.

    Args:
        progress: gets a line if another process holds the lock.
        path: the file to lock; None for this user's file in the temporary folder.

    Raises:
        CommandError: the file of the lock cannot be opened.
    """
    path = path or Path(tempfile.gettempdir()) / f"genseg-serve-{os.getuid()}.lock"
    try:
        # O_NOFOLLOW: everybody may write to the temporary folder, and could put a link there.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say("waiting for another genseg serve, which is starting")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
