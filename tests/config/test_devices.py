"""Devices that no replica can have are errors of the configuration, on their lines; and what `auto` means."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.config.devices import PARSER, SEGMENTER, auto_warning, with_auto_on_cpu
from serve_app.config.files import check_file
from serve_app.config.models import ModelsConfig, SegmentationModel, TextParserModel
from serve_app.config.schema import AppConfig

SERVE = """applications:
  - import_path: serve_app.app:build
    args: {{{args}}}
    deployments:
      - name: SegmenterDeployment
        ray_actor_options: {{{options}}}
"""
SECOND = "models: {segmentation: {device: 'cuda:1'}}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "models:\n  text_parser: {device_map: 'cuda:1'}\n",
            [
                "2 models.text_parser.device_map: Ray assigns 1 GPU to a replica of ParserDeployment, numbered from 0, "
                "so there is no GPU 1; write `cuda`"
            ],
        ),
        (
            "models:\n  text_parser: {device_map: cpu}\n  segmentation: {device: cuda}\ndevice:\n  cuda_device: 1\n",
            [
                "5 device.cuda_device: Ray assigns 1 GPU to a replica of SegmenterDeployment, numbered from 0, so "
                "there is no GPU 1; write 0"
            ],
        ),
        ("models: {text_parser: {device_map: 'cuda:0'}, segmentation: {device: cuda}}", []),
        ("models: {text_parser: {device_map: cpu}, segmentation: {device: cpu}}\ndevice: {cuda_device: 3}", []),
        ("models: {text_parser: {engine: openai, device_map: 'cuda:3'}}", []),
        (
            SERVE.format(args=SECOND, options="num_gpus: 1"),
            [
                "3 …device: Ray assigns 1 GPU to a replica of SegmenterDeployment, numbered from 0, so there is no GPU "
                "1; write `cuda`"
            ],
        ),
        (
            SERVE.format(args=SECOND, options="num_cpus: 1"),
            [
                "3 …device: Ray assigns no GPU to a replica of SegmenterDeployment; set num_gpus in its "
                "ray_actor_options and write `cuda`, or use the device `cpu`"
            ],
        ),
        (
            SERVE.format(args=SECOND, options="num_gpus: 0"),
            [
                "3 …device: Ray assigns no GPU to a replica of SegmenterDeployment; set num_gpus in its "
                "ray_actor_options and write `cuda`, or use the device `cpu`"
            ],
        ),
        (SERVE.format(args=SECOND, options="num_gpus: 2"), []),
    ],
)
def test_a_gpu_beyond_what_ray_lends_is_named(tmp_path: Path, text: str, expected: list[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    found = [f"{problem.line} {problem}" for problem in check_file(path)]
    assert [each.replace("applications[0].args.models.segmentation.", "…") for each in found] == expected


@pytest.mark.parametrize("device", ["mps", "xpu", "xpu:1"])
def test_a_device_that_pytorch_knows_and_nothing_here_was_tested_on_is_refused(tmp_path: Path, device: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"models:\n  segmentation:\n    device: '{device}'\n")
    assert [problem.at("c.yaml") for problem in check_file(path)] == [
        f"c.yaml:3: models.segmentation.device: {device!r} is not supported: nothing was tested on it; use auto, cpu, "
        "cuda or cuda:N"
    ]


def models(parser: str, segmenter: str, **more: str) -> AppConfig:
    """A configuration whose models are on these devices."""
    text = TextParserModel(model_name="Qwen/Qwen3-VL-4B-Instruct", device_map=parser, **more)
    return AppConfig(
        models=ModelsConfig(
            text_parser=text, segmentation=SegmentationModel(model_name="facebook/sam3", device=segmenter)
        )
    )


MEANS = (
    ": the cluster has no GPU now, so `auto` means the CPU unless ray_actor_options in the Serve config ask for a GPU; "
    "the models stay on the CPU even if the autoscaler adds a GPU; write `cuda` to wait for a GPU"
)
BOTH = "models.text_parser.device_map and models.segmentation.device"


@pytest.mark.parametrize(
    ("config", "num_gpus", "expected"),
    [
        (models("auto", "auto"), {}, BOTH + MEANS),
        (models("cuda", "auto"), {PARSER: 0.5, SEGMENTER: 0.0}, "models.segmentation.device" + MEANS),
        (models("auto", "auto"), {PARSER: 1}, "models.segmentation.device" + MEANS),
        (models("auto", "cuda", engine="openai"), {SEGMENTER: 0.5}, None),
        (models("cpu", "cpu"), {}, None),
        (AppConfig(), {}, None),
    ],
    ids=["both", "one", "a GPU in the file", "on a server", "said", "embedded"],
)
def test_what_auto_means_where_the_cluster_may_get_gpus(
    config: AppConfig, num_gpus: dict[str, float], expected: str | None
) -> None:
    assert auto_warning(config, num_gpus) == expected


def test_auto_is_the_cpu_for_a_process_that_was_lent_no_gpu() -> None:
    changed = with_auto_on_cpu(models("auto", "cuda")).models
    assert (changed.text_parser.device_map, changed.segmentation.device) == ("cpu", "cuda")
    assert with_auto_on_cpu(models("cuda:0", "auto")).models.segmentation.device == "cpu"
    assert with_auto_on_cpu(models("cuda", "cpu")) == models("cuda", "cpu")
