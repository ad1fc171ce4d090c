"""The examples in docstrings give what they show."""

from __future__ import annotations

import doctest
import importlib
import io
from contextlib import redirect_stdout
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "serve_app"
WITH_EXAMPLES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text()
]


def failures(module: object) -> str:
    """Run a module's examples; returns what doctest says of those that fail."""
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    said = io.StringIO()
    with redirect_stdout(said):
        for examples in finder.find(module):
            runner.run(examples)
    assert runner.tries, "the module has no example after all"
    return said.getvalue()


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module_give_what_they_show(name: str) -> None:
    assert failures(importlib.import_module(name)) == ""


def test_an_example_that_shows_something_else_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wrong_example.py").write_text('"""One.\n\n>>> 1 + 1\n3\n"""\n')
    monkeypatch.syspath_prepend(tmp_path)
    name = "wrong_example"
    assert "Expected:\n    3\nGot:\n    2" in failures(importlib.import_module(name))
