"""How often a replica may fail to start, and the messages until then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serve_app.cli.deploy import file_for_own_ray, for_own_ray, retry_notice
from serve_app.config.files import LoadedConfig, check_file, load_file
from serve_app.config.schema import AppConfig, ServingConfig

SERVE = """applications:
  - import_path: serve_app.app:build
    args: {args}
    deployments:
      - name: Ingress
        user_config: {user_config}
"""


def loaded(folder: Path, args: str) -> LoadedConfig:
    path = folder / "serve.yaml"
    path.write_text(SERVE.format(args=args, user_config="{serving: {timeout_s: 20}}"))
    return load_file(path)


def args_of(config: LoadedConfig) -> Any:
    assert config.serve is not None
    return config.serve["applications"][0]["args"]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("{}", 2),
        ("{serving: {max_failed_starts: null}}", 2),
        ("{serving: {max_failed_starts: 7}}", 7),
    ],
)
def test_on_a_ray_of_its_own_two_failed_starts_are_enough_unless_the_file_says_otherwise(
    tmp_path: Path, args: str, expected: int
) -> None:
    config = loaded(tmp_path, args)
    changed = file_for_own_ray(config)
    assert changed.app.serving.max_failed_starts == expected
    assert args_of(changed)["serving"]["max_failed_starts"] == expected
    assert changed.app.serving.timeout_s == config.app.serving.timeout_s


def test_applications_of_others_and_a_file_of_our_own_are_left_as_they_are() -> None:
    others = {"applications": [{"import_path": "other:app", "args": {"a": 1}}]}
    assert file_for_own_ray(LoadedConfig(AppConfig(), others)).serve == others
    assert file_for_own_ray(LoadedConfig(AppConfig(), None)).serve is None
    assert for_own_ray(AppConfig(serving=ServingConfig(max_failed_starts=5))).serving.max_failed_starts == 5


def test_the_number_of_starts_cannot_change_while_replicas_run(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(SERVE.format(args="{}", user_config="{serving: {max_failed_starts: 3}}"))
    assert [str(problem).split(": ", 1)[1] for problem in check_file(path)] == [
        "'serving.max_failed_starts' is not a setting of Ingress; it belongs in args (a change restarts the replicas)"
    ]


REPORT = """\nA replica failed to start with exception. Retrying {left} more time(s). Error:
Traceback (most recent call last):
  File "replica.py", line 1, in initialize
serve_app.errors.CheckpointError: model ./m: there is no such folder
"""


def test_a_failed_start_that_is_tried_again_is_named_with_its_reason() -> None:
    assert retry_notice(REPORT.format(left=19)) == (
        "a replica failed to start, and Ray tries again (tries left: 19): model ./m: there is no such folder"
    )
    assert retry_notice(REPORT.format(left=0)) is None
    assert retry_notice("Deployment 'Ingress' has 1 replicas that wait") is None
