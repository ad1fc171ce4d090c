"""Run the command line: `python -m serve_app` does the same as `genseg`."""

from __future__ import annotations

from serve_app.cli.main import main

main()
