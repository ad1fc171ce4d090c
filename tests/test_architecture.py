"""Who may import whom: walks the imports of the package, also those inside functions."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "serve_app"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))

RAY_ROOMS = {
    "app", "ingress", "metrics", "parser_deployment", "remote", "routing", "segmenter_deployment", "serve_file",
}  # fmt: skip
"""Besides these, Ray appears in `batch/` and, inside functions, in `commands/`."""

PURE = {
    "addresses", "auth", "avif_structure", "base64_images", "batching", "bilinear", "bmp_rle", "cache", "comparison",
    "config", "entities", "entity_filter", "entity_terms", "errors", "file_bounds", "heap", "image_files",
    "image_modes", "image_structure", "images", "jpeg_structure", "lettering", "mask_logits", "masks", "palette",
    "pipeline", "polygons", "results", "rle", "schemas", "settings", "slots", "steps", "tasks", "tiff_structure",
    "turns", "viz",
}  # fmt: skip
"""Know neither Ray, nor torch, nor an HTTP framework."""


def name_of(path: Path) -> str:
    """A module's name below the package, such as "models.sam3"."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


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


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_torch_is_known_to_models_and_embedded_only(path: Path) -> None:
    room = name_of(path).split(".")[0]
    if room not in {"models", "embedded"}:
        assert not uses(path, "torch")
        assert not uses(path, "transformers")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_ray_is_known_to_the_graph_only(path: Path) -> None:
    room = name_of(path).split(".")[0]
    if room in {"commands", "cli"}:
        assert not uses(path, "ray", at_import_only=True), "the command line starts without Ray"
    elif room not in RAY_ROOMS | {"batch"}:
        assert not uses(path, "ray")


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path).startswith("models.")], ids=name_of)
def test_models_know_neither_the_wire_nor_the_graph(path: Path) -> None:
    allowed = {"config", "errors", "entities", "images", "masks", "models"}
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("serve_app.")}
    assert ours <= allowed


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_rooms_know_no_framework(name: str) -> None:
    path = PACKAGE / f"{name}.py"
    for library in ("ray", "torch", "transformers", "fastapi", "starlette", "httpx"):
        assert not uses(path, library), library


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_reads_the_environment_outside_the_command_line_and_the_graph(path: Path) -> None:
    room = name_of(path).split(".")[0]
    if room not in {"cli", "commands", "batch", "ingress", "parser_deployment", "segmenter_deployment"}:
        assert "os.environ" not in path.read_text()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_cancellation_is_swallowed(path: Path) -> None:
    """Python 3.11's `asyncio.wait_for` swallows one that meets a finished future; `asyncio.timeout` does not."""
    assert "asyncio.wait_for" not in path.read_text()
    assert "suppress(asyncio.CancelledError" not in path.read_text()


def test_errors_import_nothing_of_the_package() -> None:
    assert not [name for name in imports(PACKAGE / "errors.py") if name.startswith("serve_app")]
