"""The entry point of `genseg`: sets the signal handlers, runs the command and ends the process.

Imports almost nothing at first, so that the handlers are set as early as possible.
"""

from __future__ import annotations

import signal

from serve_app.cli.signals import SIGNALS, end_at_once_on_signals

TYPE_CHECKING = False  # see cli.signals
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments after the program's name. None: use the arguments of this process, and
            end the process afterwards.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong usage.
    """
    if argv is None:
        _run_and_end()
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    end_at_once_on_signals()
    try:
        from serve_app.cli.commands import run_command

        return run_command(argv)
    finally:
        for number, handler in previous.items():
            if handler is not None:  # None: it was not set from Python, and cannot be restored
                signal.signal(number, handler)


def _run_and_end() -> NoReturn:
    end_at_once_on_signals()
    import sys

    from serve_app.cli import ending
    from serve_app.cli.commands import run_command

    ending.prepare_streams()
    try:
        code: object = run_command(sys.argv[1:])
    except SystemExit as exit_:  # from argparse: 0 after --help, 2 after wrong usage
        code = exit_.code
    except KeyboardInterrupt:  # a second Ctrl-C while the first one was being reported
        code = 1
    ending.end_process(code if isinstance(code, int) else 1)
