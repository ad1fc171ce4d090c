"""The commands of `genseg`: parses, dispatches, and turns errors into one line.

Imports the module of the chosen command only. Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from serve_app import __version__
from serve_app.cli.options import CommandError
from serve_app.cli.signals import stop_on_signals
from serve_app.errors import GensegError

DESCRIPTION = (
    "Find every thing that a prompt mentions, in every image: a mask, a box and a score of each instance, in one JSON "
    "document."
)
EPILOG = (
    "A first try, without a GPU and without a network: genseg demo. Each command has a help of its own: "
    "genseg run --help."
)
COMMANDS = {
    "run": ("run", "find what a prompt mentions in your images, and write one JSON file"),
    "serve": ("serve", "serve the HTTP API until Ctrl-C"),
    "batch": ("batch", "do a whole dataset; it may be stopped and goes on where it was"),
    "export": ("export", "write results for other tools: table, HTML report, COCO, YOLO"),
    "view": ("view", "look at a batch's results in the browser"),
    "check-config": ("check_config", "check a configuration file"),
    "doctor": ("doctor", "say what this machine can run, and why not"),
    "demo": ("demo", "run the small models that ship inside on the images that ship inside"),
}
"""Each command's module in this package, and its line in `genseg --help`."""
_OPTION = re.compile(r"--?[a-z][a-z-]*")


def run_command(argv: Sequence[str] | None) -> int:
    """Run one command.

    Args:
        argv: the arguments after the program's name; None for the process's own.

    Returns:
        The exit code.

    Raises:
        SystemExit: after --help and --version, and after wrong usage.
    """
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


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Names the default of each flag that has one and whose text does not say it already."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if not action.default or isinstance(action.default, bool) or "default" in (action.help or "").lower():
            return action.help
        return super()._get_help_string(action)


class _Once(argparse._StoreAction):
    """Stores a value; a second one would silently take the place of the first, and is an error."""

    _stored_in: argparse.Namespace | None = None

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Store the value.

        Raises:
            ArgumentError: the option is given twice.
        """
        if option_string is not None and self._stored_in is namespace:
            raise argparse.ArgumentError(self, "given twice")
        self._stored_in = namespace
        super().__call__(parser, namespace, values, option_string)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; argparse prints the whole usage before it. Takes no shortened flags."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False, formatter_class=_Help)
        for name in (None, "store"):
            self.register("action", name, _Once)

    def error(self, message: str) -> NoReturn:
        """Print the fault and exit with 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.splitlines())} (usage: {self.prog} --help)\n")


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
        """Declare the command's flags, and parse; an argument that is left over is an error."""
        module = importlib.import_module(f"serve_app.cli.{self._module}")
        module.add_arguments(self)
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")
        self.set_defaults(command_run=module.run)
        namespace, unknown = super().parse_known_args(*args, **kwargs)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._nearest_to(unknown[0])}")
        return namespace, unknown

    def _nearest_to(self, argument: str) -> str:
        """Name the flags that an unknown one may stand for, longer ones that begin with it first."""
        flag = argument.partition("=")[0]
        if not _OPTION.fullmatch(flag):
            return ""
        known = [name for name in self._option_string_actions if name.startswith("--")]
        near = [name for name in known if name.startswith(flag)] or difflib.get_close_matches(flag, known, n=1)
        return f"; did you mean {' or '.join(near)}?" if near else ""


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="genseg", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"genseg {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_CommandParser)
    for name, (module, text) in COMMANDS.items():
        commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", module=module)
    return parser


def _fail(message: str, args: argparse.Namespace, code: int = 1) -> int:
    if args.debug:
        import traceback

        traceback.print_exc()
    print(f"genseg: {message}", file=sys.stderr)
    return code


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]
