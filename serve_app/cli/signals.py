"""Handles Ctrl-C and SIGTERM. Both end a command in the same way, at any time.

Imports almost nothing, so that it is ready early. Before that, a signal calls Python's own handler, which prints a
traceback.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False  # type checkers take it as True; importing `typing` takes longer than importing this module
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Value = TypeVar("Value")

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def end_at_once_on_signals() -> None:
    """Let a signal end the process at once, until `stop_on_signals` is called.

    A command begins by importing modules, and has nothing to clean up yet. A KeyboardInterrupt would not end it
    reliably: in a callback of Python's import system it is printed with its traceback, and the command continues.
    """
    for number in SIGNALS:
        signal.signal(number, _leave)


def stop_on_signals() -> None:
    """Raise KeyboardInterrupt at SIGTERM and SIGINT from now on.

    A shell starts background commands of a script with SIGINT ignored, so SIGINT is set too.
    """
    for number in SIGNALS:
        signal.signal(number, _interrupt)


def keeping_signals(start_ray: Callable[[], Value]) -> Value:
    """Start or join Ray, then set our signal handlers again, which Ray replaces.

    Ray's handlers end the process at once. Those in Python use an exit code of their own; those in C++ print a stack
    trace and abort.

    Args:
        start_ray: calls `ray.init`.

    Returns:
        What `start_ray` returns.

    Raises:
        KeyboardInterrupt: a signal came while Ray was starting.
    """
    try:
        return start_ray()
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        stop_on_signals()


def finish_undisturbed() -> None:
    """Ignore further signals, because a second Ctrl-C during the clean-up would leave processes and files behind."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _leave(*_: object) -> None:
    os.write(2, b"genseg: interrupted\n")
    os._exit(1)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
