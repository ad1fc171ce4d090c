"""Trains an embedded checkpoint: `python -m serve_app.embedded.train segmenter|parser|identity [options]`.

`python -m serve_app.embedded.train MODEL --help` lists the options of a model.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

MODELS = ("segmenter", "parser", "identity")


def main(argv: Sequence[str] | None = None) -> int:
    """Train the named model.

    Args:
        argv: the command-line arguments; None means those of the process.

    Returns:
        The exit status.
    """
    return dispatch("train", "training", sys.argv[1:] if argv is None else argv)


class _OptionsHelp(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default to the help of an option, unless the option is unset by default."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or action.default == "":
            return action.help
        return super()._get_help_string(action)


def dispatch(command: str, task: str, argv: Sequence[str]) -> int:
    """Run `serve_app.embedded.MODEL.TASK` with the options that it declares.

    Only the module of the named model is imported, because each model needs other libraries.

    Args:
        command: name of the module that users start, for the help text.
        task: name of the module in the model's package.
        argv: the model's name, then its options.

    Returns:
        The exit status.
    """
    program = f"python -m serve_app.embedded.{command}"
    chooser = argparse.ArgumentParser(prog=program, epilog=f"`{program} MODEL --help` lists the options of a model.")
    chooser.add_argument("model", choices=MODELS, help="embedded model to work on")
    model = chooser.parse_args(argv[:1]).model
    module = importlib.import_module(f"serve_app.embedded.{model}.{task}")
    parser = argparse.ArgumentParser(
        prog=f"{program} {model}",
        description=module.__doc__,
        formatter_class=_OptionsHelp,
    )
    module.add_arguments(parser)
    return int(module.run(parser.parse_args(argv[1:])))


if __name__ == "__main__":
    sys.exit(main())
