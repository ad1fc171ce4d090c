"""Lets services start one after the other on a machine: of two at once, neither would find the other's Ray."""

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
    """Hold the lock for as long as the block runs; the system takes it back from a process that dies.

    Args:
        progress: told who is waited for.
        path: of the file that is locked; None for the one of this user on this machine.

    Raises:
        CommandError: the file cannot be opened.
    """
    path = path or Path(tempfile.gettempdir()) / f"genseg-serve-{os.getuid()}.lock"
    try:
        # Not followed where it is a link: everybody may write to the folder.
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
