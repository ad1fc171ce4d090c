"""Traces of a service that the command line starts: what Ray reads of them, and what they need."""

from __future__ import annotations

import os
from importlib.util import find_spec

from serve_app.cli.options import CommandError
from serve_app.config.files import LoadedConfig

EXPORTER = "serve_app.serving.otlp:exporter"
"""Ours, as Ray is told of it."""
PATH, RATIO = "RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH", "RAY_SERVE_TRACING_SAMPLING_RATIO"
"""Ray's own variables."""
PACKAGE = "opentelemetry.exporter.otlp.proto.http"


def set_tracing(loaded: LoadedConfig, package: str = PACKAGE) -> None:
    """Let the processes of a Ray that is started after this trace as a Serve config says, else as the environment says.

    Of `tracing_config` Ray tells its replicas only; its HTTP proxies, where a trace begins, read the environment.

    Args:
        loaded: the configuration.
        package: what our exporter needs.

    Raises:
        CommandError: our exporter is asked for, and its packages are not installed.
    """
    section = (loaded.serve or {}).get("tracing_config")
    if section is not None:
        from ray.serve.schema import TracingConfig

        config = TracingConfig.model_validate(section)
        os.environ[PATH] = (config.exporter_import_path or _default_exporter()) if config.enabled else ""
        os.environ[RATIO] = str(config.sampling_ratio)
    if os.environ.get(PATH) == EXPORTER and not _is_there(package):
        raise CommandError(f"traces ({PATH}={EXPORTER}) need the extra otel: pip install 'genseg[otel]'")


def _default_exporter() -> str:
    """Ray's own, which writes files."""
    from ray.serve._private.constants import DEFAULT_TRACING_EXPORTER_IMPORT_PATH

    return str(DEFAULT_TRACING_EXPORTER_IMPORT_PATH)


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # a package above it is missing
        return False
