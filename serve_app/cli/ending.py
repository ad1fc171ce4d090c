"""Prepares the standard streams, writes results to standard output, and ends the process."""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path
from typing import NoReturn, TextIO

from serve_app.cli.options import CommandError
from serve_app.cli.signals import finish_undisturbed


def prepare_streams() -> None:
    """Make stdout and stderr accept any text. If stderr is closed, messages are discarded."""
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - for the rest of the process
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def print_out(text: str) -> None:
    """Write a command's result to standard output in UTF-8, and flush it.

    Raises:
        CommandError: standard output is closed or cannot be written.
        BrokenPipeError: nothing reads standard output any more.
    """
    out: TextIO | None = sys.stdout
    if out is None:
        raise CommandError("standard output: is closed")
    try:
        out.flush()
        out.buffer.write(f"{text}\n".encode("utf-8", "backslashreplace"))
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"standard output: {error.strerror or error}") from None


def end_process(code: int) -> NoReturn:
    """Flush the output, and end the process without Python's own shutdown.

    Ray, gRPC and PyTorch leave threads behind. Python's shutdown removes modules that these threads use, which can
    crash a process that has done its work (seen: exit code -11 instead of 1). Functions registered with `atexit` do
    run: one of them ends Ray's processes if a signal came while Ray was starting.

    Args:
        code: the exit code. The process ends with 1 instead of 0 if standard output cannot be flushed.
    """
    finish_undisturbed()
    atexit._run_exitfuncs()
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        code = code or 1
    except OSError as error:
        if code == 0:
            code = 1
            os.write(2, f"genseg: standard output: {error.strerror or error}\n".encode())
    try:
        sys.stderr.flush()
    finally:
        os._exit(code)
