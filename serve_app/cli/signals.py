"""Ctrl-C and SIGTERM: both end a command the same way, at whatever moment they come.

Imports next to nothing: until this module is there, a signal finds Python's own handler, which prints a traceback.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False  # type checkers take it as true; importing `typing` takes longer than this module
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import TypeVar

    Value = TypeVar("Value")

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def end_at_once_on_signals() -> None:
    """Let a signal end the process at once, until `stop_on_signals` is called.

    At once, because a command begins with importing modules, when nothing has to be finished yet. A KeyboardInterrupt
    may meet a callback of Python's import system: it is then printed with its traceback, and the command goes on.
    """
    for number in SIGNALS:
        signal.signal(number, _leave)


def stop_on_signals() -> None:
    """Raise KeyboardInterrupt at SIGTERM and SIGINT from now on.

    SIGINT is set, too: a shell starts a script's background commands with SIGINT ignored.
    """
    for number in SIGNALS:
        signal.signal(number, _interrupt)


def keeping_signals(start_ray: Callable[[], Value]) -> Value:
    """Start or join Ray, and take the signals back from it.

    Ray's own handlers end the process at once: in Python with an exit code of their own, in C++ with a stack trace and
    an abort.

    Args:
        start_ray: calls `ray.init`.

    Raises:
        KeyboardInterrupt: a signal came meanwhile.
    """
    try:
        return start_ray()
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        stop_on_signals()


def finish_undisturbed() -> None:
    """Ignore further signals: an impatient second Ctrl-C would leave processes and files behind."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"genseg: interrupted\n")
    os._exit(1)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
