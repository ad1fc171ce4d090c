"""Who may import whom: walks the imports of the package, also those inside functions."""

from __future__ import annotations

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "serve_app"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_ENTRIES = 16
MAX_LINES = 300
MAX_FACE_LINES = 50
"""Of an `__init__.py`."""
MAX_UNTYPED = 20
"""Lines with a mapping whose values may be anything."""

ORDER = (
    "__main__", "cli", "app", "batch", "client", "serving", "verdict", "models", "embedded", "entities", "images",
    "masks", "config", "schemas", "errors", "",
)  # fmt: skip
"""The packages; each imports only what stands to its right. The last is `serve_app` itself."""

SERVING_ORDER = (
    "ingress", "http", "pipeline", "judging", "one_model", "stages", "segmenter", "evidence", "overlays", "embeddings",
    "objects", "parser", "fetch", "otlp", "documents", "remote", "routing", "image_files", "checked_request", "stamp",
    "gpus", "connections", "addresses", "messages", "replica", "autoscaling", "ray_errors", "",
)  # fmt: skip
"""The same inside `serving`."""

CALLERS = {"batch", "client"}
"""These call the service: of the package they import no more than CALLERS_IMPORT."""
CALLERS_IMPORT = {"masks", "config", "schemas", "errors"}
MAY_TOO = ("batch.service", "serving.ray_errors")
"""The one exception, who imports and what: `batch.service` calls the service through Ray, and so gets Ray's errors."""

LIBRARIES = {
    "ray": (
        "app", "batch.service", "cli", "config.serve_config", "serving.gpus", "serving.ingress", "serving.ray_errors",
        "serving.remote", "serving.replica.metrics", "serving.routing", "serving.stamp",
    ),
    "torch": ("models", "embedded"),
    "transformers": ("models", "embedded"),
    "fastapi": ("serving.http",),
    "starlette": ("serving.http",),
    "python_multipart": ("serving.http",),
    "httpx": ("client", "models.openai_parser", "serving.fetch", "serving.connections", "batch.sources"),
    "httpcore": ("serving.fetch", "serving.connections"),
    "opentelemetry": ("serving.otlp", "serving.replica.otel"),
}  # fmt: skip
"""The packages and modules that know a library. `cli` imports Ray inside functions only."""

ENVIRONMENT = ("cli", "config", "batch", "serving.ingress", "serving.otlp", "models.cuda")
"""Where environment variables are read."""


def name_of(path: Path) -> str:
    """A module's name below the package, such as "models.sam3"; that of a package's `__init__` is the package's."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


NAMES = {name_of(path): path for path in MODULES}


@cache
def imports(name: str, *, at_import_only: bool = False) -> frozenset[str]:
    """Full names of what a module imports, without what only type checkers read."""
    found: set[str] = set()

    def walk(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if at_import_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: an import that is not absolute"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            walk(child)

    walk(ast.parse(NAMES[name].read_text()))
    return frozenset(found)


def uses(name: str, library: str, *, at_import_only: bool = False) -> bool:
    """Whether a module imports a library or a part of it."""
    names = imports(name, at_import_only=at_import_only)
    return any(each == library or each.startswith(f"{library}.") for each in names)


def ours(name: str) -> set[str]:
    """Names of the package's own modules that a module imports."""
    found = set()
    for full in imports(name):
        if full.split(".")[0] == PACKAGE.name:
            inner = full.removeprefix(PACKAGE.name).removeprefix(".")
            while inner not in NAMES:
                inner = inner.rpartition(".")[0]
            found.add(inner)
    return found


def is_in(name: str, places: tuple[str, ...]) -> bool:
    """Whether a module is one of the places, or inside one."""
    return any(name == place or name.startswith(f"{place}.") for place in places)


def at_the_top(name: str) -> str:
    return name.split(".")[0]


def test_the_top_of_the_package_is_small() -> None:
    entries = [path.name for path in PACKAGE.iterdir() if path.name not in ("__pycache__", "py.typed")]
    assert len(entries) <= MAX_ENTRIES
    assert {at_the_top(name) for name in NAMES} <= set(ORDER)


def test_modules_are_short() -> None:
    assert [name for name, path in NAMES.items() if len(path.read_text().splitlines()) > MAX_LINES] == []


def test_imports_run_one_way() -> None:
    against = [
        f"{name} imports {other}"
        for name in NAMES
        for other in ours(name)
        if at_the_top(other) not in allowed_to(at_the_top(name)) and (name, other) != MAY_TOO
    ]
    assert against == []


def allowed_to(package: str) -> set[str]:
    if package in CALLERS:
        return {package} | CALLERS_IMPORT
    return set(ORDER[ORDER.index(package) :])


def test_the_map_in_contributing_names_every_package_in_this_order() -> None:
    page = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = re.search(r"^## The map$.*?^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert shown is not None
    named = [line.split()[0].replace("/", ".") for line in shown[1].splitlines()]
    packages = [name for name, path in NAMES.items() if path.name == "__init__.py"]
    assert [name for name in named if "." not in name] == [name for name in ORDER if name]
    assert sorted(named) == sorted({*packages, *ORDER} - {""})


def test_imports_inside_serving_run_one_way() -> None:
    def part(name: str) -> str:
        return [*name.split("."), ""][1]

    serving = [name for name in NAMES if at_the_top(name) == "serving"]
    against = [
        f"{name} imports {other}"
        for name in serving
        for other in ours(name)
        if other in serving and part(other) not in SERVING_ORDER[SERVING_ORDER.index(part(name)) :]
    ]
    assert against == []


def test_no_module_imports_itself_by_a_way_round() -> None:
    TopologicalSorter({name: ours(name) - {name} for name in NAMES}).prepare()  # raises CycleError


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_known_where_it_belongs(library: str) -> None:
    assert [name for name in NAMES if not is_in(name, LIBRARIES[library]) and uses(name, library)] == []


@pytest.mark.parametrize("library", ["ray", "torch", "transformers"])
def test_the_command_line_starts_without(library: str) -> None:
    assert [name for name in NAMES if at_the_top(name) == "cli" and uses(name, library, at_import_only=True)] == []


def test_nothing_imports_opentelemetry_until_a_process_is_traced() -> None:
    knowing = {name for name in NAMES if uses(name, "opentelemetry")}
    tops = {f"{PACKAGE.name}.{name}" for name in knowing}
    assert knowing == {"serving.otlp", "serving.replica.otel"}
    assert [
        name
        for name in set(NAMES) - knowing
        if any(full.startswith(tuple(tops)) for full in imports(name, at_import_only=True))
    ] == []


def test_nothing_reads_the_environment_outside_the_command_line_and_the_graph() -> None:
    assert [
        name
        for name, path in NAMES.items()
        if re.search(r"\b(environ|getenv)\b", path.read_text()) and not is_in(name, ENVIRONMENT)
    ] == []


@pytest.mark.parametrize("text", ["asyncio.wait_for", "suppress(asyncio.CancelledError"])
def test_no_cancellation_is_swallowed(text: str) -> None:
    """Python 3.11's `asyncio.wait_for` swallows one that meets a finished future; `asyncio.timeout` does not."""
    assert [name for name, path in NAMES.items() if text in path.read_text()] == []


def test_packages_hand_names_on_and_do_nothing_else() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= MAX_FACE_LINES, path
        kinds = {type(node) for node in ast.parse(text).body}
        assert kinds <= {ast.Expr, ast.ImportFrom, ast.Assign}, path
    assert not ours("serving"), "or the command line would import Ray"


def test_untyped_mappings_are_few() -> None:
    untyped = re.compile(r"(?:dict|Mapping)\[[^]]*, (?:Any|object)\]")
    lines = [line for path in MODULES for line in path.read_text().splitlines() if untyped.search(line)]
    assert len(lines) <= MAX_UNTYPED
