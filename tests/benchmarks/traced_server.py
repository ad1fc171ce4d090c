"""The graph with the embedded models on a Ray of its own, in a process of its own; traced if the environment says so.

    python -m tests.benchmarks.traced_server

Writes its address in one line, and ends when its input does.
"""

from __future__ import annotations

import sys

from serve_app.config.schema import AppConfig
from tests.benchmarks.serving import real_serve, wait_until_ready


def main() -> None:
    """Serve until there is no more input."""
    with real_serve() as url:
        from ray import serve

        from serve_app.app import APP_NAME, bind

        serve.run(bind(AppConfig()), name=APP_NAME)
        wait_until_ready(url)
        print(url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
