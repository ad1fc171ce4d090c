"""Every package that the code imports is declared in pyproject.toml, and nothing is declared without a use."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import serve_app

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = ("constrained", "otel", "batch", "heif")
"""The extras of the package itself; the other one, `test`, is for those who change it."""

NOT_IMPORTED = {"accelerate"}
"""What another library imports for us: transformers needs accelerate for `device_map`."""
OF_THE_CALLERS = {"pandas", "supervision"}
"""`serve_app.client` makes their types for those who have them. The test extra installs them."""
TOOLS = {"ruff", "mypy", "types-pyyaml", "pytest-asyncio", "pytest-timeout", "pytest-xdist"}
"""Declared for the tests, used by command or as plugins of pytest and mypy."""
WITHOUT_INSTALLATION = {"tests/data/heif/make.py"}
"""Scripts that say in their first lines what must be installed before they run."""


def imports_of(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, also inside functions, and those that it names as text."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "importorskip")):
            yield from (str(each.value) for each in node.args[:1] if isinstance(each, ast.Constant))


def distribution_of(module: str) -> str | None:
    """The distribution that brings a module; None for Python's own and for this project's."""
    top = module.split(".")[0]
    if top in sys.stdlib_module_names or top in ("serve_app", "tests"):
        return None
    candidates = {canonicalize_name(name) for name in PROVIDERS.get(top, ())}
    if len(candidates) == 1:
        return candidates.pop()
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        place = "/".join(parts[:length])
        for name in sorted(candidates):
            if files_of(name) & {f"{place}.py", f"{place}/__init__.py"}:
                return name
    raise AssertionError(f"no installed distribution brings the module {module}")


@cache
def files_of(name: str) -> frozenset[str]:
    return frozenset(str(path) for path in distribution(name).files or ())


PROVIDERS = packages_distributions()


def imported(folder: str) -> dict[str, set[str]]:
    """For each distribution that a folder's code imports, the files that do."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        place = str(path.relative_to(ROOT))
        if place not in WITHOUT_INSTALLATION:
            for name in filter(None, map(distribution_of, imports_of(path))):
                found.setdefault(name, set()).add(place)
    return found


def declared(*extras: str) -> set[str]:
    """Names of the package's dependencies, and of those of some extras."""
    lines = [*PROJECT["dependencies"], *(line for each in extras for line in PROJECT["optional-dependencies"][each])]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def test_the_package_declares_each_library_that_it_imports_and_no_other() -> None:
    uses = imported("serve_app")
    names = declared(*EXTRAS) | OF_THE_CALLERS
    assert {name: files for name, files in uses.items() if name not in names} == {}
    assert names - set(uses) == NOT_IMPORTED


def test_the_test_extra_declares_what_else_the_tests_import() -> None:
    uses = imported("tests")
    assert {name: files for name, files in uses.items() if name not in declared(*EXTRAS, "test")} == {}
    assert declared("test") - declared() - set(uses) == TOOLS


def test_a_library_that_nothing_installs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROVIDERS, "left_pad", ["left-pad"])
    code = "def f():\n    from left_pad.core import pad\n"
    names = [ast.unparse(node) for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    assert names == ["from left_pad.core import pad"]
    assert distribution_of("left_pad.core.pad") == "left-pad"
    with pytest.raises(AssertionError, match="brings the module right_pad"):
        distribution_of("right_pad.core")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("opentelemetry.trace.Link", "opentelemetry-api"),
        ("opentelemetry.sdk.trace.Span", "opentelemetry-sdk"),
        ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry-exporter-otlp-proto-http"),
        ("yaml", "pyyaml"),
        ("PIL.Image", "pillow"),
        ("os.path", None),
        ("serve_app.errors", None),
    ],
)
def test_a_module_is_traced_to_its_distribution(module: str, name: str | None) -> None:
    assert distribution_of(module) == name


def test_the_constraints_pin_every_declared_package_within_its_range() -> None:
    pins: dict[str, list[str]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            name, _, version = line.partition(";")[0].strip().partition("==")
            pins.setdefault(canonicalize_name(name), []).append(version)
    lines = [*PROJECT["dependencies"], *(line for each in PROJECT["optional-dependencies"].values() for line in each)]
    for requirement in map(Requirement, lines):
        versions = pins.get(canonicalize_name(requirement.name), [])
        assert versions, f"constraints.txt does not pin {requirement.name}"
        assert all(version in requirement.specifier for version in versions), f"{requirement} is pinned to {versions}"


def test_the_version_is_written_in_one_place() -> None:
    assert PROJECT["dynamic"] == ["version"]
    written = re.compile(rf"(?<![\d.]){re.escape(serve_app.__version__)}(?![\d.])")
    places = [ROOT / name for name in ("README.md", "Makefile", "pyproject.toml")]
    for folder in ("serve_app", "tests", "configs", "cluster"):
        places += [path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in TEXTS]
    found = [str(path.relative_to(ROOT)) for path in places if written.search(path.read_text())]
    assert found == ["serve_app/__init__.py"]


TEXTS = {".py", ".md", ".yaml", ".yml", ".toml", ".js", ".html", ".conf", ".sh", ".txt", ".jinja"}
