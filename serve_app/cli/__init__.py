"""`genseg`: the command line; one module a command, with `add_arguments` and `run`."""

from serve_app.cli.main import main

__all__ = ["main"]
