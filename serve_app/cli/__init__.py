"""The command line `genseg`. Each command is a module with `add_arguments` and `run`."""

from serve_app.cli.main import main

__all__ = ["main"]
