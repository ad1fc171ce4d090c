"""Checks that a replica can see the GPU that a configuration names.

A replica sees only the GPUs that Ray assigned to it, and counts them from 0. Knows neither Ray nor torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from serve_app.config.findings import Finding, Path, place_of
from serve_app.config.models import EMBEDDED
from serve_app.config.schema import AppConfig

PARSER, SEGMENTER = "ParserDeployment", "SegmenterDeployment"
GPU_SHARE = 0.5
"""`num_gpus` of a replica with a GPU if the Serve config has no `ray_actor_options` for it.

A parser and a segmenter then share one GPU.
"""


def devices_of(config: AppConfig) -> dict[str, tuple[Path, str]]:
    """Return the configured device of each deployment that loads its model itself.

    Returns:
        The path of the configuration key and its value, by deployment. With the engine `openai`, the parser is left
        out.
    """
    parser, segmenter = config.models.text_parser, config.models.segmentation
    devices: dict[str, tuple[Path, str]] = {}
    if parser.engine != "openai":
        devices[PARSER] = (("models", "text_parser", "device_map"), parser.device_map)
    devices[SEGMENTER] = (("models", "segmentation", "device"), segmenter.device)
    return devices


def device_findings(config: AppConfig, num_gpus: Mapping[str, float]) -> Iterator[Finding]:
    """Yield a finding for each deployment whose configured GPU its replicas cannot see.

    Args:
        config: the whole configuration.
        num_gpus: GPUs of a replica, by deployment. A deployment that is not in it has no `ray_actor_options`, so its
            replicas get GPU_SHARE.
    """
    for deployment, (key, device) in devices_of(config).items():
        kind, _, number = device.partition(":")
        if kind not in {"auto", "cuda"}:
            continue
        path = key if number else ("device", "cuda_device")
        index = int(number) if number else config.device.cuda_device
        visible = math.ceil(num_gpus.get(deployment, GPU_SHARE))
        if index > 0 and index >= visible:
            yield Finding(path, _invisible(deployment, index, visible, "`cuda`" if number else "0"))


def _invisible(deployment: str, index: int, visible: int, instead: str) -> str:
    """Say why a replica cannot see a GPU, and what to write."""
    if not visible:
        return (
            f"Ray assigns no GPU to a replica of {deployment}; set num_gpus in its ray_actor_options and write "
            f"{instead}, or use the device `cpu`"
        )
    count = "1 GPU" if visible == 1 else f"{visible} GPUs"
    numbered = f"Ray assigns {count} to a replica of {deployment}, numbered from 0"
    return f"{numbered}, so there is no GPU {index}; write {instead}"


def auto_warning(config: AppConfig, num_gpus: Mapping[str, float]) -> str | None:
    """Return a warning that `auto` means the CPU on a cluster that has no GPU yet.

    Args:
        config: the whole configuration.
        num_gpus: GPUs that a replica asks for, by deployment. A deployment that is not in it asks for none.

    Returns:
        One line; None if every model has a GPU or a fixed device. The small embedded models do not count.
    """
    models = config.models
    names = {PARSER: models.text_parser.model_name, SEGMENTER: models.segmentation.model_name}
    keys = [
        place_of(key)
        for deployment, (key, device) in devices_of(config).items()
        if device == "auto" and names[deployment] != EMBEDDED and not num_gpus.get(deployment)
    ]
    if not keys:
        return None
    return (
        f"{' and '.join(keys)}: the cluster has no GPU now, so `auto` means the CPU unless ray_actor_options in the "
        "Serve config ask for a GPU; the models stay on the CPU even if the autoscaler adds a GPU; write `cuda` to "
        "wait for a GPU"
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
