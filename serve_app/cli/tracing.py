"""Sets up the traces of a service that the command line starts."""

from __future__ import annotations

import os
from importlib.util import find_spec

from serve_app.cli.options import CommandError
from serve_app.config.files import LoadedConfig

EXPORTER = "serve_app.serving.otlp:exporter"
"""The import path of our exporter."""
PATH, RATIO = "RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH", "RAY_SERVE_TRACING_SAMPLING_RATIO"
"""Ray's own environment variables."""
PACKAGE = "opentelemetry.exporter.otlp.proto.http"


def set_tracing(loaded: LoadedConfig, package: str = PACKAGE) -> None:
    """Set Ray's variables for tracing from the `tracing_config` of a Serve config, if there is one.

    Call this before Ray starts.

    Ray passes `tracing_config` to replicas only. Its HTTP proxies, where a trace begins, read the environment.

    Args:
        loaded: the configuration.
        package: the package that our exporter needs.

    Raises:
        CommandError: our exporter is configured, but `package` is not installed.
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
    """Return Ray's own exporter, which writes files."""
    from ray.serve._private.constants import DEFAULT_TRACING_EXPORTER_IMPORT_PATH

    return str(DEFAULT_TRACING_EXPORTER_IMPORT_PATH)


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False
