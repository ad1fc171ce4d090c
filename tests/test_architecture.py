"""Who may import whom: walks the imports of the package, also those inside functions."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "serve_app"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_ENTRIES = 16
MAX_LINES = 300

ORDER = (
    "__main__", "cli", "app", "batch", "client", "serving", "verdict", "models", "embedded", "entities", "images",
    "masks", "config", "schemas", "errors", "",
)  # fmt: skip
"""The packages; each imports only what stands to its right. The last is `serve_app` itself; `verdict` is to come."""

SERVING_ORDER = (
    "ingress", "http", "pipeline", "segmenter", "parser", "fetch", "documents", "remote", "routing", "checked_request",
    "connections", "addresses", "messages", "replica", "ray_errors", "",
)  # fmt: skip
"""The same inside `serving`."""

OUTSIDE_THE_GRAPH = {"batch", "client"}
"""These know the service from its outside: of the package they import no more than THE_WIRE."""
THE_WIRE = {"masks", "config", "schemas", "errors"}
ON_A_HANDLE = ("batch.service", "serving.ray_errors")
"""The one exception: who calls the service through Ray gets Ray's errors."""

LIBRARIES = {
    "ray": (
        *(
            "app",
            "serving.ingress",
            "serving.segmenter",
            "serving.remote",
            "serving.ray_errors",
            "serving.routing",
            "serving.replica.metrics",
        ),
        *("batch.service", "config.serve_config", "cli"),
    ),
    "torch": ("models", "embedded"),
    "transformers": ("models", "embedded"),
    "fastapi": ("serving.http",),
    "starlette": ("serving.http", "serving.ingress"),
    "python_multipart": ("serving.http",),
    "httpx": ("client", "models.openai_parser", "serving.fetch", "serving.connections", "batch.sources"),
    "httpcore": ("serving.fetch", "serving.connections"),
}
"""The packages and modules that know a library. `cli` imports Ray inside functions only."""

ENVIRONMENT = ("cli", "config", "batch", "serving.ingress")
"""Where environment variables are read."""


def name_of(path: Path) -> str:
    """A module's name below the package, such as "models.sam3"; that of a package's `__init__` is the package's."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


NAMES = {name_of(path): path for path in MODULES}


def imports(path: Path, *, at_import_only: bool = False) -> set[str]:
    """Full names of what a module imports, without what only type checkers read."""
    found: set[str] = set()

    def walk(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if at_import_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            walk(child)

    walk(ast.parse(path.read_text()))
    return found


def uses(path: Path, library: str, *, at_import_only: bool = False) -> bool:
    """Whether a module imports a library or a part of it."""
    names = imports(path, at_import_only=at_import_only)
    return any(name == library or name.startswith(f"{library}.") for name in names)


def ours(path: Path) -> set[str]:
    """Names of the package's own modules that a module imports."""
    found = set()
    for name in imports(path):
        if name.split(".")[0] == PACKAGE.name:
            inner = name.removeprefix(PACKAGE.name).removeprefix(".")
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
    entries = [path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= MAX_ENTRIES
    assert {at_the_top(name) for name in NAMES} <= set(ORDER)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_run_one_way(path: Path) -> None:
    own = at_the_top(name_of(path))
    allowed = {own} | THE_WIRE if own in OUTSIDE_THE_GRAPH else set(ORDER[ORDER.index(own) :])
    found = {name for name in ours(path) if (name_of(path), name) != ON_A_HANDLE}
    assert {at_the_top(name) for name in found} <= allowed


@pytest.mark.parametrize("path", [path for path in MODULES if at_the_top(name_of(path)) == "serving"], ids=name_of)
def test_imports_inside_serving_run_one_way(path: Path) -> None:
    def part(name: str) -> str:
        return [*name.split("."), ""][1]

    own = part(name_of(path))
    found = {part(name) for name in ours(path) if at_the_top(name) == "serving"}
    assert found <= set(SERVING_ORDER[SERVING_ORDER.index(own) :])


def test_no_module_imports_itself_by_a_way_round() -> None:
    TopologicalSorter({name: ours(path) - {name} for name, path in NAMES.items()}).prepare()  # raises CycleError


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_libraries_are_known_where_they_belong(path: Path, library: str) -> None:
    name = name_of(path)
    if not is_in(name, LIBRARIES[library]):
        assert not uses(path, library)
    elif at_the_top(name) == "cli":
        assert not uses(path, library, at_import_only=True), "the command line starts without Ray"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_reads_the_environment_outside_the_command_line_and_the_graph(path: Path) -> None:
    if not is_in(name_of(path), ENVIRONMENT):
        assert "os.environ" not in path.read_text()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_cancellation_is_swallowed(path: Path) -> None:
    """Python 3.11's `asyncio.wait_for` swallows one that meets a finished future; `asyncio.timeout` does not."""
    assert "asyncio.wait_for" not in path.read_text()
    assert "suppress(asyncio.CancelledError" not in path.read_text()


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py"], ids=name_of)
def test_packages_hand_names_on_and_do_nothing_else(path: Path) -> None:
    text = path.read_text()
    code = [node for node in ast.parse(text).body if not isinstance(node, ast.Expr | ast.ImportFrom | ast.Assign)]
    assert not code
    assert len(text.splitlines()) <= 50
    if name_of(path) == "serving":
        assert not ours(path), "or the command line would import Ray"
