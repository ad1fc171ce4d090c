"""Checks the GPU that a configuration names: a replica sees only the GPUs that Ray assigned to it, numbered from 0.

Knows neither Ray nor torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from serve_app.config.findings import Finding, Path, place_of
from serve_app.config.models import EMBEDDED
from serve_app.config.schema import AppConfig

PARSER, SEGMENTER = "ParserDeployment", "SegmenterDeployment"
GPU_SHARE = 0.5
"""GPUs of a deployment without `num_gpus` in its options: the two models share one GPU."""


def devices_of(config: AppConfig) -> dict[str, tuple[Path, str]]:
    """Return the configured device of each deployment that loads its model itself.

    Returns:
        By deployment: the key in the configuration, and its value. The parser is left out with the engine `openai`.
    """
    parser, segmenter = config.models.text_parser, config.models.segmentation
    devices: dict[str, tuple[Path, str]] = {}
    if parser.engine != "openai":
        devices[PARSER] = (("models", "text_parser", "device_map"), parser.device_map)
    devices[SEGMENTER] = (("models", "segmentation", "device"), segmenter.device)
    return devices


def device_findings(config: AppConfig, num_gpus: Mapping[str, float]) -> Iterator[Finding]:
    """Yield a finding for each configured device that no replica can see.

    Args:
        config: the whole configuration.
        num_gpus: GPUs of a replica, by deployment; GPU_SHARE for a deployment that is not in it.
    """
    for deployment, (place, device) in devices_of(config).items():
        kind, _, number = device.partition(":")
        if kind not in {"auto", "cuda"}:
            continue
        path = place if number else ("device", "cuda_device")
        index = int(number) if number else config.device.cuda_device
        visible = math.ceil(num_gpus.get(deployment, GPU_SHARE))
        if 0 < index >= visible:
            word = "write `cuda`" if number else "write 0"
            count = "1 GPU" if visible == 1 else f"{visible} GPUs"
            yield Finding(path, f"Ray assigns {count} to a replica of {deployment}, numbered from 0: {word}")


def auto_warning(config: AppConfig, num_gpus: Mapping[str, float]) -> str | None:
    """Warn that `auto` means the CPU on a cluster that has no GPU yet.

    Args:
        config: the whole configuration.
        num_gpus: GPUs of a replica, by deployment; 0 for a deployment that is not in it.

    Returns:
        One line; None if no model would run on a CPU for that reason. The small embedded models do not count.
    """
    models = config.models
    names = {PARSER: models.text_parser.model_name, SEGMENTER: models.segmentation.model_name}
    places = [
        place_of(place)
        for deployment, (place, device) in devices_of(config).items()
        if device == "auto" and names[deployment] != EMBEDDED and not num_gpus.get(deployment)
    ]
    if not places:
        return None
    return (
        f"{' and '.join(places)}: the cluster has no GPU now, so auto means the CPU unless ray_actor_options in the "
        "Serve config ask for a GPU, and it will not change when the autoscaler adds one; write `cuda` if the replicas "
        "are to wait for a GPU"
    )


def with_auto_on_cpu(config: AppConfig) -> AppConfig:
    """Return the configuration with `cpu` in place of `auto`, for a process to which Ray assigned no GPU."""
    models = config.models
    parser, segmenter = models.text_parser, models.segmentation
    if parser.device_map == "auto":
        parser = parser.model_copy(update={"device_map": "cpu"})
    if segmenter.device == "auto":
        segmenter = segmenter.model_copy(update={"device": "cpu"})
    models = models.model_copy(update={"text_parser": parser, "segmentation": segmenter})
    return config.model_copy(update={"models": models})
