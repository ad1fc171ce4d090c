"""`genseg`: run | serve | batch | check-config | demo. Parses, dispatches, and turns errors into one line.

Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from serve_app import __version__
from serve_app.cli.options import CommandError
from serve_app.cli.signals import interruptible
from serve_app.errors import GensegError

COMMANDS = {
    "run": ("run", "segment every thing a prompt mentions in every image"),
    "serve": ("serve", "serve the HTTP API until Ctrl-C"),
    "batch": ("batch", "a whole dataset, resumable at any moment"),
    "check-config": ("check_config", "check a configuration file"),
    "demo": ("demo", "the embedded models on the bundled images"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments after the program's name; None for the process's own.

    Returns:
        The exit code.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    with interruptible():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    try:
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


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="genseg", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--version", action="version", version=f"genseg {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (module_name, text) in COMMANDS.items():
        module = _module(module_name)
        command = commands.add_parser(name, help=text, description=text)
        module.add_arguments(command)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        command.set_defaults(command_run=module.run)
    return parser


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"serve_app.cli.{name}")


def _fail(message: str, args: argparse.Namespace, code: int = 1) -> int:
    if args.debug:
        import traceback

        traceback.print_exc()
    print(f"genseg: {message}", file=sys.stderr)
    return code


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]


if __name__ == "__main__":
    sys.exit(main())
