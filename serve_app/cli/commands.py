"""Parses the command line, runs the chosen command, and turns each error into one line.

Only the chosen command's module is imported. Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import re
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from serve_app import __version__
from serve_app.cli.options import CommandError
from serve_app.cli.signals import stop_on_signals
from serve_app.errors import GensegError

DESCRIPTION = (
    "Find each object that a prompt names, in each image, and write one JSON document with a mask, a box and a score "
    "of each object."
)
EPILOG = (
    "To try it without a GPU or a network, run: genseg demo. It uses the embedded models, three small models that ship "
    "with genseg. Each command has its own help, such as genseg run --help."
)


class Command(NamedTuple):
    """A command.

    Attributes:
        module: the command's module in this package.
        text: what the command does, in one line.
        example: a command line.
    """

    module: str
    text: str
    example: str


COMMANDS = {
    "run": Command(
        "run",
        "find in your images what a prompt names, and write one JSON file",
        "genseg run -p 'Two dogs on a red sofa' -c dogs.jpg sofa.jpg -g generated.jpg --verdict",
    ),
    "serve": Command("serve", "serve the HTTP API until Ctrl-C", "genseg serve config.yaml --port 8001"),
    "batch": Command(
        "batch",
        "process a dataset; you can stop at any time, and continue with the same command",
        "genseg batch rows.jsonl --output results --verdict",
    ),
    "export": Command(
        "export",
        "write results for other tools: table, HTML report, COCO, YOLO",
        "genseg export results --format table --output results.csv",
    ),
    "view": Command("view", "show a batch's results in the browser", "genseg view results"),
    "check-config": Command("check_config", "check a configuration file", "genseg check-config config.yaml"),
    "doctor": Command(
        "doctor", "check what this machine can run, and say what is missing", "genseg doctor config.yaml --load"
    ),
    "demo": Command("demo", "run the embedded models on the bundled images", "genseg demo"),
}
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
        stop_on_signals()  # inside `try`, so that the KeyboardInterrupt of an early signal is caught
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


class _Help(argparse.HelpFormatter):
    """Adds the default to the help of a flag, unless the help states a default already."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text, default = action.help or "", action.default
        if not default or isinstance(default, bool) or default is argparse.SUPPRESS or "default" in text.lower():
            return text
        return f"{text} Default: %(default)s."


class _Once(argparse._StoreAction):
    """Stores a value. A second value is an error, because it would silently replace the first."""

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
    """Reports wrong usage in one line, without argparse's usage text, and refuses shortened flags."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, add_help=False, allow_abbrev=False, formatter_class=_Help)
        for name in (None, "store"):
            self.register("action", name, _Once)
        self.add_argument("-h", "--help", action="help", help="Show this help and exit.")

    def error(self, message: str) -> NoReturn:
        """Print what is wrong, and exit with 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.splitlines())} (usage: {self.prog} --help)\n")


class _CommandParser(_Parser):
    """The parser of one command. It imports the command's module only when it parses arguments.

    Args:
        module: name of the module, which has `add_arguments` and `run`.
        options: arguments of ArgumentParser.
    """

    def __init__(self, *, module: str, **options: Any) -> None:
        super().__init__(**options)
        self._module = module

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:  # argparse declares three overloads
        """Declare the command's flags and parse the arguments. An unknown argument is an error."""
        module = importlib.import_module(f"serve_app.cli.{self._module}")
        module.add_arguments(self)
        self.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
        self.set_defaults(command_run=module.run)
        namespace, unknown = super().parse_known_args(*args, **kwargs)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._nearest_to(unknown[0])}")
        return namespace, unknown

    def _nearest_to(self, argument: str) -> str:
        """Suggest the flags that begin with the unknown one, else the most similar flag; empty if none is similar."""
        flag = argument.partition("=")[0]
        if not _OPTION.fullmatch(flag):
            return ""
        known = [name for name in self._option_string_actions if name.startswith("--")]
        near = [name for name in known if name.startswith(flag)] or difflib.get_close_matches(flag, known, n=1)
        return f"; did you mean {' or '.join(near)}?" if near else ""


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="genseg", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument(
        "--version", action="version", version=f"genseg {__version__}", help="Show the version and exit."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_CommandParser)
    for name, (module, text, example) in COMMANDS.items():
        description = f"{text[0].upper()}{text[1:]}."
        commands.add_parser(name, module=module, help=text, description=description, epilog=f"Example: {example}")
    return parser


def _fail(message: str, args: argparse.Namespace, code: int = 1) -> int:
    if args.debug:
        import traceback

        traceback.print_exc()
    print(f"genseg: {message}", file=sys.stderr)
    return code


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]
