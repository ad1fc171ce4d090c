"""A GPU that no replica can see is an error of the configuration, on its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.config.files import check_file

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
                "2 models.text_parser.device_map: Ray lends a replica of ParserDeployment 1 GPU, numbered from 0: "
                "write `cuda`"
            ],
        ),
        (
            "models:\n  text_parser: {device_map: cpu}\n  segmentation: {device: cuda}\ndevice:\n  cuda_device: 1\n",
            ["5 device.cuda_device: Ray lends a replica of SegmenterDeployment 1 GPU, numbered from 0: write 0"],
        ),
        ("models: {text_parser: {device_map: 'cuda:0'}, segmentation: {device: cuda}}", []),
        ("models: {text_parser: {device_map: cpu}, segmentation: {device: cpu}}\ndevice: {cuda_device: 3}", []),
        ("models: {text_parser: {engine: openai, device_map: 'cuda:3'}}", []),
        (
            SERVE.format(args=SECOND, options="num_gpus: 1"),
            ["3 …device: Ray lends a replica of SegmenterDeployment 1 GPU, numbered from 0: write `cuda`"],
        ),
        (
            SERVE.format(args=SECOND, options="num_cpus: 1"),
            ["3 …device: Ray lends a replica of SegmenterDeployment 0 GPUs, numbered from 0: write `cuda`"],
        ),
        (SERVE.format(args=SECOND, options="num_gpus: 2"), []),
    ],
)
def test_a_gpu_beyond_what_ray_lends_is_named(tmp_path: Path, text: str, expected: list[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    found = [f"{problem.line} {problem}" for problem in check_file(path)]
    assert [each.replace("applications[0].args.models.segmentation.", "…") for each in found] == expected
