"""The tracing settings that `genseg serve` gives to Ray, and the one line for a missing package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.cli.options import CommandError
from serve_app.cli.tracing import EXPORTER, PATH, RATIO, set_tracing
from serve_app.config.files import LoadedConfig, load_file
from serve_app.config.schema import AppConfig

SERVE_FILE = """\
{section}
applications:
  - name: segmentation
    route_prefix: /
    import_path: serve_app.app:build
"""


@pytest.fixture(autouse=True)
def _untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (PATH, RATIO):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)


def loaded(folder: Path, section: str) -> LoadedConfig:
    path = folder / "serve.yaml"
    path.write_text(SERVE_FILE.format(section=section))
    return load_file(path)


@pytest.mark.parametrize(
    ("section", "exporter", "ratio"),
    [
        (f"tracing_config: {{enabled: true, exporter_import_path: '{EXPORTER}'}}", EXPORTER, "0.01"),
        (f"tracing_config: {{enabled: true, exporter_import_path: '{EXPORTER}', sampling_ratio: 1}}", EXPORTER, "1.0"),
        ("tracing_config: {enabled: true}", "ray.serve._private.tracing_utils:default_tracing_exporter", "0.01"),
        ("tracing_config: {enabled: false}", "", "0.01"),
        ("", None, None),
    ],
    ids=["ours, at the default ratio", "another ratio", "ray's files", "off", "not said"],
)
def test_the_proxies_are_told_what_the_file_says(
    section: str, exporter: str | None, ratio: str | None, tmp_path: Path
) -> None:
    set_tracing(loaded(tmp_path, section), package="json")
    assert (os.environ.get(PATH), os.environ.get(RATIO)) == (exporter, ratio)


def test_a_missing_package_is_one_line_before_anything_starts() -> None:
    code = (
        "import sys; sys.modules['opentelemetry.exporter.otlp'] = None\n"  # nothing below it is found
        "from serve_app.cli.main import main; sys.exit(main(['serve']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, PATH: EXPORTER},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"genseg: traces ({PATH}={EXPORTER}) need the extra otel: pip install 'genseg[otel]'"
    ]


def test_ray_reads_what_the_console_leaves_out_although_the_file_is_checked_by_ray(tmp_path: Path) -> None:
    """Ray reads the variable when it is imported. The command ends before it starts Ray: the exporter is missing."""
    path = tmp_path / "serve.yaml"
    path.write_text(SERVE_FILE.format(section=""))
    code = (
        "import sys; sys.modules['opentelemetry.exporter.otlp'] = None\n"
        "from serve_app.cli.main import main; assert main(['serve', sys.argv[1]]) == 1\n"
        "from ray._private.ray_constants import RAY_DEDUP_LOGS_SKIP_REGEX as skipped\n"
        "from serve_app.cli.ray_session import OUR_LINES_ONLY\n"
        "print(OUR_LINES_ONLY == {'RAY_DEDUP_LOGS_SKIP_REGEX': skipped})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env={**os.environ, PATH: EXPORTER},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "True\n"


def test_another_exporter_needs_no_package_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    config = LoadedConfig(AppConfig(), None)
    monkeypatch.setenv(PATH, "company.tracing:exporter")
    set_tracing(config, package="no_such_package.at_all")
    monkeypatch.setenv(PATH, EXPORTER)
    with pytest.raises(CommandError, match="extra otel"):
        set_tracing(config, package="no_such_package.at_all")
