"""Reads a command's prompt: the argument itself, a file or standard input."""

from __future__ import annotations

import codecs
import sys
from pathlib import Path

from serve_app.cli.options import CommandError

STANDARD_INPUT = "-"
FILE_MARK = "@"
BYTES_PER_CHAR = 4
"""The largest number of bytes that UTF-8 needs for a character."""


def read_prompt(argument: str, max_chars: int) -> str:
    """Read a prompt.

    Args:
        argument: `-` for standard input, `@FILE` for a file, else the prompt itself. If the
            prompt itself begins with `@`, it begins with `@@` here.
        max_chars: the limit on prompts. Only a little more is read, enough to see that a prompt is too long.

    Returns:
        The prompt. White space at both ends is left out if it comes from a file or standard input.

    Raises:
        CommandError: the file or standard input cannot be read, is empty, or is not UTF-8 text.
    """
    max_bytes = BYTES_PER_CHAR * (max_chars + 1)
    if argument == STANDARD_INPUT:
        return _text(_standard_input(max_bytes), "-p -", max_bytes)
    if argument.startswith(FILE_MARK * 2):
        return argument.removeprefix(FILE_MARK)
    if not argument.startswith(FILE_MARK):
        return argument
    path = argument.removeprefix(FILE_MARK)
    try:
        with Path(path).open("rb") as file:
            data = file.read(max_bytes)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CommandError(f"-p {argument}: {reason}; if the prompt itself begins with @, write @@ instead") from None
    return _text(data, f"-p {argument}", max_bytes)


def _standard_input(max_bytes: int) -> bytes:
    if sys.stdin is None:
        raise CommandError("-p -: standard input is closed")
    try:
        return sys.stdin.buffer.read(max_bytes)
    except OSError as error:
        raise CommandError(f"-p -: {error.strerror or error}") from None


def _text(data: bytes, place: str, max_bytes: int) -> str:
    try:
        # Text that was cut at max_bytes may end in the middle of a character. It is too long anyway.
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(data, final=len(data) < max_bytes).strip()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CommandError(f"{place}: line {line} is not UTF-8 text") from None
    if not text:
        raise CommandError(f"{place}: is empty", usage=True)
    return text
