"""The standard streams of the process, and its end."""

from __future__ import annotations

import atexit
import os
import sys
from typing import NoReturn, TextIO

from serve_app.cli.options import CommandError
from serve_app.cli.signals import finish_undisturbed


def prepare_streams() -> None:
    """Make the standard streams take any text; where stderr is closed, messages go nowhere."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def print_out(text: str) -> None:
    """Write a command's result to standard output, in UTF-8, at once.

    Raises:
        CommandError: standard output is closed, or takes no more.
        BrokenPipeError: its reader is gone.
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
    """End the process with what was printed, and without Python's own end.

    Libraries leave threads behind (Ray, gRPC, PyTorch). Python's end takes the modules away from under them, which has
    crashed a process whose work was done (exit code -11 in place of 1). What was registered to run at the end does run:
    Ray ends its processes so where a signal came in the middle of its start.

    Args:
        code: the exit code; 1 in place of 0 where standard output did not take what was printed.
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
