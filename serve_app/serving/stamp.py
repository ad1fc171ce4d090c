"""Make the stamp that says which model a segmenter replica has, so that each document comes from one model."""

from __future__ import annotations

import time
from hashlib import blake2b

from ray import serve

import serve_app
from serve_app.config.schema import AppConfig
from serve_app.serving.messages import ModelStamp
from serve_app.serving.ray_errors import RAY_ERRORS


def stamp_now(config: AppConfig) -> ModelStamp:
    """Make the stamp of a replica that starts now.

    Args:
        config: the configuration of the replica.
    """
    return ModelStamp(config.models.segmentation.model_name, version_of(config), time.time(), _replica_id())


def version_of(config: AppConfig) -> str:
    """Hash what determines a replica's results; results of one version may be combined in one document."""
    models = config.models
    decides = (
        serve_app.__version__,
        models.segmentation.model_dump_json(),
        models.identity.model_dump_json(),
        config.device.model_dump_json(),
    )
    return blake2b("\n".join(decides).encode(), digest_size=8).hexdigest()


def _replica_id() -> str:
    try:
        return str(serve.get_replica_context().replica_id.unique_id)
    except RAY_ERRORS:
        return ""  # not in a replica: a test or a benchmark uses the class directly
