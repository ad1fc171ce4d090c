"""Lines on stderr while long work runs: what is going on, and that something is."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Progress:
    """Says what happens; says nothing where it is quiet.

    Args:
        quiet: no output at all.
        stream: where lines go; None for the standard error as it is at the time.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._quiet = quiet
        self._stream = stream

    @property
    def _out(self) -> TextIO:
        return self._stream or sys.stderr

    def say(self, text: str) -> None:
        """Write one line."""
        if not self._quiet:
            print(text, file=self._out, flush=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Write a step's name, its seconds while it runs (on a terminal), and how long it took."""
        if self._quiet:
            yield
            return
        started = time.monotonic()
        done = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(text, started, done), daemon=True)
        if self._out.isatty():
            ticker.start()
        else:
            self.say(f"{text} …")
        try:
            yield
        finally:
            done.set()
            if ticker.is_alive():
                ticker.join()
            back = "\r\x1b[K" if self._out.isatty() else ""
            self.say(f"{back}{text}: {time.monotonic() - started:.1f} s")

    def _tick(self, text: str, started: float, done: threading.Event) -> None:
        while not done.wait(0.2):
            print(f"\r\x1b[K{text} … {time.monotonic() - started:.0f} s", end="", file=self._out, flush=True)
