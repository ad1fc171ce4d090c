"""Which GPU a configuration names, against how Ray lends them: a replica sees only those that it asked for, from 0 on.

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
"""What a deployment on a GPU asks for where nothing is said: both models share one."""


def devices_of(config: AppConfig) -> dict[str, tuple[Path, str]]:
    """Return the place and the name of the device of each deployment whose model runs in its own process."""
    parser, segmenter = config.models.text_parser, config.models.segmentation
    devices: dict[str, tuple[Path, str]] = {}
    if parser.engine != "openai":
        devices[PARSER] = (("models", "text_parser", "device_map"), parser.device_map)
    devices[SEGMENTER] = (("models", "segmentation", "device"), segmenter.device)
    return devices


def device_findings(config: AppConfig, num_gpus: Mapping[str, float]) -> Iterator[Finding]:
    """Yield the devices that no replica can ever see.

    Args:
        config: everything.
        num_gpus: what deployments ask Ray for, by name; GPU_SHARE where one is left out.
    """
    for deployment, (place, device) in devices_of(config).items():
        kind, _, number = device.partition(":")
        if kind not in {"auto", "cuda"}:
            continue
        path = place if number else ("device", "cuda_device")
        index = int(number) if number else config.device.cuda_device
        lent = math.ceil(num_gpus.get(deployment, GPU_SHARE))
        if 0 < index >= lent:
            word = "write `cuda`" if number else "write 0"
            count = "1 GPU" if lent == 1 else f"{lent} GPUs"
            yield Finding(path, f"Ray lends a replica of {deployment} {count}, numbered from 0: {word}")


def auto_warning(config: AppConfig, num_gpus: Mapping[str, float]) -> str | None:
    """Say what `auto` means on a cluster that has no GPU now and may get some.

    Args:
        config: everything.
        num_gpus: what deployments ask Ray for, by name; one that is left out asks for none.

    Returns:
        One line; None where no model, apart from the small embedded ones, would run on a CPU for that reason.
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
    """Return a configuration in which `auto` is `cpu`, for a process that was lent no GPU."""
    models = config.models
    parser, segmenter = models.text_parser, models.segmentation
    if parser.device_map == "auto":
        parser = parser.model_copy(update={"device_map": "cpu"})
    if segmenter.device == "auto":
        segmenter = segmenter.model_copy(update={"device": "cpu"})
    models = models.model_copy(update={"text_parser": parser, "segmentation": segmenter})
    return config.model_copy(update={"models": models})
