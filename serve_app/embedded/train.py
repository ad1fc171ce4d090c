"""Trains an embedded checkpoint: `python -m serve_app.embedded.train segmenter|parser [options]`."""

import argparse
import importlib
import sys
from collections.abc import Sequence

MODELS = ("segmenter", "parser", "identity")


def main(argv: Sequence[str] | None = None) -> int:
    """Train the named model.

    Args:
        argv: the arguments; those of the process if None.

    Returns:
        The exit status.
    """
    return dispatch("train", "training", sys.argv[1:] if argv is None else argv)


def dispatch(command: str, task: str, argv: Sequence[str]) -> int:
    """Run `serve_app.embedded.MODEL.TASK` with the options it declares.

    Only the named model's module is imported: each has needs of its own.

    Args:
        command: name of the module that people start, for the help.
        task: the module of the model's package.
        argv: the model's name, then its options.

    Returns:
        The exit status.
    """
    program = f"python -m serve_app.embedded.{command}"
    chooser = argparse.ArgumentParser(prog=program, epilog="MODEL --help lists the model's options")
    chooser.add_argument("model", choices=MODELS)
    model = chooser.parse_args(argv[:1]).model
    module = importlib.import_module(f"serve_app.embedded.{model}.{task}")
    parser = argparse.ArgumentParser(
        prog=f"{program} {model}",
        description=module.__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    module.add_arguments(parser)
    return int(module.run(parser.parse_args(argv[1:])))


if __name__ == "__main__":
    sys.exit(main())
