"""`python -m serve_app` is `genseg`."""

from __future__ import annotations

from serve_app.cli.main import main

main()
