"""`genseg check-config`: prints every fault of a configuration file, with the number of the line."""

from __future__ import annotations

import argparse
import os
import sys

from serve_app.config.files import check_environment, check_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("file", metavar="FILE", help="Configuration file or Serve config (YAML).")


def run(args: argparse.Namespace) -> int:
    """Print each fault on a line of its own.

    Returns:
        The exit code: 1 if there is a fault.
    """
    problems = check_file(args.file) or check_environment(args.file, os.environ)
    for problem in problems:
        print(problem.at(args.file), file=sys.stderr)
    if not problems:
        print(f"{args.file}: all right")
    return 1 if problems else 0
