"""Ctrl-C and SIGTERM: both end a command the same way, at whatever moment they come."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

SIGNALS = (signal.SIGTERM, signal.SIGINT)
Value = TypeVar("Value")


@contextmanager
def interruptible() -> Iterator[None]:
    """Let a signal end the process at once until `stop_on_signals` is called; put the earlier handlers back at the end.

    At once, because the block begins with importing modules, when nothing has to be finished yet. A KeyboardInterrupt
    may meet a callback of Python's import system: it is then printed with its traceback, and the command goes on.
    """
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, _leave)
    try:
        yield
    finally:
        for number, handler in previous.items():
            if handler is not None:  # else it was not set from Python, and cannot be set again
                signal.signal(number, handler)


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
