"""The command line's error class and readers of flags, for all commands. Imports nothing heavy."""

from __future__ import annotations

import argparse

MAX_PORT = 65535


class CommandError(Exception):
    """A command cannot be carried out.

    Args:
        message: one line that names the file or flag.
        usage: whether the command line itself is wrong (exit code 2, else 1).
    """

    def __init__(self, message: str, usage: bool = False) -> None:
        super().__init__(message)
        self.usage = usage


def at_least_one(text: str) -> int:
    """Read a whole number of at least 1, for argparse.

    Raises:
        ArgumentTypeError: the text is not such a number.
    """
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def port_number(text: str) -> int:
    """Read a TCP port, for argparse.

    Raises:
        ArgumentTypeError: the text is not a port.
    """
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_PORT and len(text) < 9):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, a whole number from 1 to {MAX_PORT}")
    return int(text)
