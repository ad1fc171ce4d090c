"""Writes progress lines to stderr while long work runs. No other module writes them."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

_ERASE = "\r\x1b[K"  # back to the start of the line, and clear it
_TICK_S = 0.2


class Progress:
    """Writes progress lines.

    Args:
        quiet: write nothing.
        stream: where lines go; None for `sys.stderr`, looked up at each line.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._quiet = quiet
        self._stream = stream

    @property
    def _out(self) -> TextIO:
        return self._stream or sys.stderr

    @property
    def on_terminal(self) -> bool:
        """Whether lines go to a terminal, where a line can replace the one before."""
        return self._out.isatty()

    @property
    def takes_colours(self) -> bool:
        """Whether lines may have colours: on a terminal, unless NO_COLOR or TERM=dumb is set. Source: no-color.org."""
        return self.on_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def say(self, text: str) -> None:
        """Write a line that stays. It replaces a line that `show` wrote."""
        self._write(f"{text}\n")

    def show(self, text: str) -> None:
        """Write a line that the next one replaces; for terminals only."""
        self._write(text)

    def _write(self, text: str) -> None:
        if not self._quiet:
            with suppress(OSError):  # the disk of a log file is full, or a pipe's reader is gone
                print(f"{_ERASE if self.on_terminal else ''}{text}", end="", file=self._out, flush=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Write a step's name, its seconds while it runs (on a terminal), and how long it took."""
        if self._quiet:
            yield
            return
        started = time.monotonic()
        done = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(text, started, done), daemon=True)
        if self.on_terminal:
            ticker.start()
        else:
            self.say(f"{text} …")
        try:
            yield
        finally:
            done.set()
            if ticker.is_alive():
                ticker.join()
            self.say(f"{text}: {time.monotonic() - started:.1f} s")

    def _tick(self, text: str, started: float, done: threading.Event) -> None:
        while not done.wait(_TICK_S):
            self.show(f"{text} … {time.monotonic() - started:.0f} s")
