"""`python -m tests.graph.traced_service CONFIG PORT`: the graph around fake models, traced; ends when its input does.

A process of its own, because Ray reads once, when it is imported, whether it traces.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import yaml

from serve_app.cli.tracing import set_tracing
from serve_app.config.files import LoadedConfig
from serve_app.config.schema import AppConfig


def main(path: Path, port: int) -> None:
    """Serve one application at its prefix until there is no more input."""
    document = yaml.safe_load(path.read_text())
    set_tracing(LoadedConfig(AppConfig(), document))
    import ray
    from ray import serve

    from tests.graph.fakes import build

    (application,) = document["applications"]
    ray.init("local", num_cpus=8, include_dashboard=False, logging_level=logging.ERROR)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(build(application["args"]), name=application["name"], route_prefix=application["route_prefix"])
    print("ready", flush=True)
    sys.stdin.read()
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
