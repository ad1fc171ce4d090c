"""The `genseg` commands of the README's snippets, done in the process of the tests on the service of the tests.

What each command gets:

- `run`: the real command, with `--url` of the service in place of models of its own. A command with a flag that names
  models, a configuration or a device is only parsed: such a flag has no effect with `--url`.
- `batch`: the real command, on the service's handle; it does not join Ray, which the tests have joined already.
  `--standalone` would start models of its own (15 s), so the service does those rows, too.
- `export`, `check-config`: the real command.
- `serve`, `demo`, `doctor`, `view`: the command's own parser reads the arguments, and a configuration that is named is
  loaded. `serve` and `demo` start a Ray of their own (15 s), `view` serves until Ctrl-C, and `doctor` fails where there
  is no GPU.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from serve_app.batch.patience import Segment
from serve_app.batch.service import HandleSegment
from serve_app.cli import batch
from serve_app.cli.commands import COMMANDS
from serve_app.cli.main import main
from serve_app.config.files import load_file
from tests.graph.conftest import Graph

PARSED_ONLY = frozenset({"serve", "demo", "doctor", "view"})
OF_OWN_MODELS = frozenset({"config", "text_model", "seg_model", "dtype", "device"})
"""Options of `genseg run` that say which models it starts."""


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments with the flags of the command that they name.

    Raises:
        SystemExit: there is no such command, or the arguments are wrong.
    """
    if not argv or argv[0] not in COMMANDS:
        raise SystemExit(f"genseg: there is no command {' '.join(argv[:1])!r}")
    parser = argparse.ArgumentParser(prog=f"genseg {argv[0]}", allow_abbrev=False)
    importlib.import_module(f"serve_app.cli.{COMMANDS[argv[0]][0]}").add_arguments(parser)
    return parser.parse_args(argv[1:])


def do(argv: Sequence[str], graph: Graph) -> int:
    """Do or check one command, as the module says.

    Args:
        argv: the arguments after `genseg`.
        graph: the running service.

    Returns:
        The exit code.
    """

    @contextmanager
    def connect(*_: Any) -> Iterator[Segment]:
        yield HandleSegment(graph.handle)

    if not {"--help", "--version"}.isdisjoint(argv):
        return main(argv)
    name, given = argv[0] if argv else "", parsed(argv)
    if name in PARSED_ONLY:
        if config := getattr(given, "config", None):
            load_file(config)
        return 0
    if name == "batch":
        return batch.run_with(given, connect)
    if name != "run" or given.url is not None:
        return main(argv)
    if any(getattr(given, option) is not None for option in OF_OWN_MODELS):
        return 0
    return main([*argv, "--url", graph.url])
