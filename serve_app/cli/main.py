"""`genseg`: run | serve | batch | check-config | demo. Parses, dispatches, and turns errors into one line.

Imports the module of the chosen command only. Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from serve_app import __version__
from serve_app.cli.options import CommandError
from serve_app.cli.signals import interruptible, stop_on_signals
from serve_app.errors import GensegError

COMMANDS = {
    "run": ("run", "segment every thing a prompt mentions in every image"),
    "serve": ("serve", "serve the HTTP API until Ctrl-C"),
    "batch": ("batch", "a whole dataset, resumable at any moment"),
    "check-config": ("check_config", "check a configuration file"),
    "demo": ("demo", "the embedded models on the bundled images"),
}
"""Each command's module in this package, and its line in `genseg --help`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments after the program's name; None for the process's own.

    Returns:
        The exit code.
    """
    with interruptible():
        return _run(_parser().parse_args(argv))


def _run(args: argparse.Namespace) -> int:
    try:
        stop_on_signals()  # inside, so that no KeyboardInterrupt comes before it is caught
        code: int = args.command_run(args)
        return code
    except KeyboardInterrupt:
        return _fail("interrupted", args)
    except CommandError as error:
        return _fail(str(error), args, 2 if error.usage else 1)
    except GensegError as error:
        return _fail(error.message, args)
    except BrokenPipeError:
        return 1
    except Exception as error:
        return _fail(f"unexpected {type(error).__name__}: {_first_line(error)} (--debug shows where)", args)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; argparse prints the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        """Print the fault and exit with 2."""
        self.exit(2, f"{self.prog}: {message} (usage: {self.prog} --help)\n")


class _CommandParser(_Parser):
    """The parser of one command, which imports the command's module once its arguments are to be parsed.

    Args:
        module: name of the module, with `add_arguments` and `run`.
        options: of ArgumentParser.
    """

    def __init__(self, *, module: str, **options: Any) -> None:
        super().__init__(**options)
        self._module = module

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:  # as argparse calls it: it has three signatures
        """Declare the command's flags, and parse."""
        module = importlib.import_module(f"serve_app.cli.{self._module}")
        module.add_arguments(self)
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")
        self.set_defaults(command_run=module.run)
        return super().parse_known_args(*args, **kwargs)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="genseg", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--version", action="version", version=f"genseg {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_CommandParser)
    for name, (module, text) in COMMANDS.items():
        commands.add_parser(name, help=text, description=text, module=module)
    return parser


def _fail(message: str, args: argparse.Namespace, code: int = 1) -> int:
    if args.debug:
        import traceback

        traceback.print_exc()
    print(f"genseg: {message}", file=sys.stderr)
    return code


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]
