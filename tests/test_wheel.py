"""The wheel holds everything that the installed package needs, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from serve_app import __version__

ROOT = Path(__file__).parent.parent
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
DATA = {
    *(f"embedded/checkpoints/{kind}/{name}"
      for kind in ("parser", "segmenter")
      for name in ("config.json", "model.safetensors", "processor_config.json", "tokenizer.json",
                   "tokenizer_config.json", "README.md")),
    *(f"embedded/checkpoints/identity/{name}"
      for name in ("config.json", "model.safetensors", "preprocessor_config.json", "README.md")),
    "py.typed",
    "embedded/checkpoints/parser/chat_template.jinja",
    "embedded/checkpoints/parser/generation_config.json",
    *(f"embedded/images/{name}" for name in ("contextual_0.jpg", "contextual_1.jpg", "generated.jpg", "result.jpg")),
    "embedded/images/demo.json",
    "embedded/images/manifest.jsonl",
    "embedded/parser/words.txt",
    "embedded/parser/templates.txt",
    *(f"serving/http/page/{name}" for name in ("index.html", "view.html", "style.css", "icon.svg")),
    *(f"serving/http/page/{name}.js"
      for name in ("api", "colours", "dom", "downloads", "draw", "examples", "filter", "filters", "form", "job", "main",
                   "masks", "matches", "ndjson", "pictures", "ready", "results", "rle", "snippets", "tint", "token",
                   "rows", "verdict", "view", "viewer", "worker", "zip")),
}  # fmt: skip
"""Files besides the code, below the package."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds the wheel from a copy of the sources."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "serve_app", source / "serve_app", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-c", BUILD, str(output)], cwd=source, check=True, capture_output=True)
    (built,) = output.glob("*.whl")
    return built


def test_the_wheel_holds_every_module_and_the_data_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "serve_app").rglob("*.py")}
    assert names == modules | {f"serve_app/{name}" for name in DATA}


def test_the_wheel_says_its_licence_and_its_version(wheel: Path) -> None:
    folder = f"genseg-{__version__}.dist-info"
    with ZipFile(wheel) as archive:
        licence, metadata = (archive.read(f"{folder}/{name}").decode() for name in ("licenses/LICENSE", "METADATA"))
    assert licence == (ROOT / "LICENSE").read_text()
    assert f"\nVersion: {__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata


def test_type_checkers_read_the_annotations_of_the_installed_package(wheel: Path, tmp_path: Path) -> None:
    installed, caller = tmp_path / "installed", tmp_path / "caller" / "caller.py"
    with ZipFile(wheel) as archive:
        archive.extractall(installed)
    caller.parent.mkdir()
    caller.write_text("from serve_app.errors import InvalidImage\nreveal_type(InvalidImage.status)\n")
    environment = {"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin"}
    answer = subprocess.run(
        [sys.executable, "-P", "-m", "mypy", f"--cache-dir={tmp_path / 'cache'}", caller.name],
        cwd=caller.parent, env=environment, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert answer.stdout.splitlines()[0] == 'caller.py:2: note: Revealed type is "int"'


def test_the_wheel_runs_where_the_sources_are_not(wheel: Path, tmp_path: Path) -> None:
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
        (entry_points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "genseg = serve_app.cli:main" in archive.read(entry_points).decode()
    command = [sys.executable, "-P", "-m", "serve_app", "--version"]
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    answer = subprocess.run(command, cwd="/", env=environment, check=True, capture_output=True, text=True)
    assert answer.stdout == f"genseg {__version__}\n"
