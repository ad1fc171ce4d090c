"""The Python and shell blocks of the documentation run, or their commands are checked where a run needs a cluster.

README.md: first the shell blocks in the order of the page, then the Python blocks in one namespace, because they read
files that the shell blocks write. They run in a folder with copies of the bundled pictures, on the service of the tests
in place of http://127.0.0.1:8000. Bash runs a shell block. In it `genseg` only records its arguments; when the block
has ended, `tests.snippet_commands`, which says what each command gets, does the recorded commands. `make` is
`make --dry-run` in the project. `curl` is the real program. NOT_RUN lists the blocks that cannot run here.

CONTRIBUTING.md, cluster/README.md and cluster/SIZING.md: the command lines of `genseg` parse, and the files, modules
and make targets that the code names exist. tests/test_cluster_files.py runs the commands of cluster/README.md with
stand-ins for the programs of a cluster.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import io
import os
import re
import shlex
import shutil
import subprocess
import textwrap
import traceback
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.graph.conftest import Graph
from tests.snippet_commands import do, parsed

ROOT = Path(__file__).parent.parent
IMAGES = Path("serve_app/embedded/images")
SHELL, PYTHON = frozenset({"bash", "sh", "shell", "console"}), frozenset({"python", "py"})
SHOWN = frozenset({"", "text", "json", "yaml"})
"""Languages of blocks that show something which is not run here."""
DEFAULT_URL = "http://127.0.0.1:8000"
BLOCK_S = 120
RECORD = "commands"
"""The file that the stand-in for `genseg` writes: for each command the number of its arguments, then these."""

NOT_RUN: dict[str, str] = {
    # First line of a shell or Python block in README.md: why it cannot run here.
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    code: str

    @property
    def first_line(self) -> str:
        """The line that names the block in NOT_RUN and in the ids of the tests."""
        return next((line.strip() for line in self.code.splitlines() if line.strip()), "")


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page of the project, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"^( *)```(.*?)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [Block(language.strip(), textwrap.dedent(code)) for _, language, code in found]


README = blocks("README.md")
RUN = [block for block in README if block.language in SHELL | PYTHON and block.first_line not in NOT_RUN]


def of(languages: frozenset[str]) -> list[Block]:
    return [block for block in RUN if block.language in languages]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has after `make install`: copies, so that no snippet writes into the project."""
    folder = tmp_path_factory.mktemp("snippets")
    for copied in (IMAGES, Path("configs"), Path("cluster")):
        shutil.copytree(ROOT / copied, folder / copied)
    commands = folder / ".venv" / "bin"
    commands.mkdir(parents=True)
    (commands / "activate").touch()
    for name, command in (
        ("genseg", f"printf '%s\\0' $# \"$@\" >> {shlex.quote(str(folder / RECORD))}"),
        ("make", f'exec {shutil.which("make")} --dry-run --directory {shlex.quote(str(ROOT))} "$@"'),
    ):
        (commands / name).write_text(f"#!/bin/bash\n{command}\n")
        (commands / name).chmod(0o755)
    for block in of(SHELL | PYTHON):
        for found in re.findall(r"(?<![\w./-])[\w-][\w./-]*\.(?:jpe?g|png)\b", block.code):
            picture = folder / found
            if not picture.exists():
                picture.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / IMAGES / ("generated.jpg" if "gen" in picture.name else "contextual_0.jpg"), picture)
    return folder


def run_in_the_shell(block: Block, graph: Graph, folder: Path) -> str | None:
    """Run a shell block and its `genseg` commands; return what was printed if one failed."""
    script = block.code.replace(DEFAULT_URL, graph.url).replace("curl ", "curl --fail --silent --show-error ")
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{script}"],
        cwd=folder,
        env={**os.environ, "PATH": f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BLOCK_S,
        check=False,
    )
    if done.returncode != 0:
        return f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    for argv in recorded(folder):
        printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        with redirect_stdout(printed), redirect_stderr(printed):
            try:
                code: object = do(argv, graph)
            except SystemExit as exit_:  # wrong usage
                code = exit_.code
            except Exception:
                code = traceback.format_exc()
        if code != 0:
            return f"genseg {shlex.join(argv)}: {code}\n{printed.buffer.getvalue().decode()}"
    return None


def recorded(folder: Path) -> Iterator[list[str]]:
    """Yield the arguments of each `genseg` command that a block ran, and forget them."""
    record = folder / RECORD
    words = record.read_text().split("\0")[:-1] if record.exists() else []
    record.unlink(missing_ok=True)
    while words:
        count = int(words[0])
        yield words[1 : count + 1]
        words = words[count + 1 :]


def run_in_python(block: Block, graph: Graph, namespace: dict[str, object]) -> str | None:
    """Run a Python block; return the traceback if it failed."""
    try:
        text = block.code.replace(DEFAULT_URL, graph.url)
        waited = eval(compile(text, "<block>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), namespace)
        if inspect.iscoroutine(waited):  # the block has an `await` outside of functions
            asyncio.run(waited)
    except Exception:
        return traceback.format_exc()
    return None


@pytest.fixture(scope="module")
def failures(graph: Graph, folder: Path) -> dict[Block, str | None]:
    """What went wrong in each block of the README; None if nothing did."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        found = {block: run_in_the_shell(block, graph, folder) for block in of(SHELL)}
        return {**found, **{block: run_in_python(block, graph, namespace) for block in of(PYTHON)}}


@pytest.mark.parametrize("block", [*of(SHELL), *of(PYTHON)], ids=lambda block: block.first_line[:60])
def test_a_block_of_the_readme_runs(block: Block, failures: dict[Block, str | None]) -> None:
    assert failures[block] is None, failures[block]


def test_every_block_of_the_readme_has_a_language_that_is_known() -> None:
    assert {block.language for block in README} <= SHELL | PYTHON | SHOWN
    assert of(SHELL)
    assert of(PYTHON)


def test_every_block_that_is_not_run_is_in_the_readme() -> None:
    assert NOT_RUN.keys() <= {block.first_line for block in README if block.language in SHELL | PYTHON}
    assert all(NOT_RUN.values())


PAGES = [page for page in ("CONTRIBUTING.md", "cluster/README.md", "cluster/SIZING.md") if (ROOT / page).is_file()]
IN_THE_IMAGE = "/opt/genseg/"
"""Where cluster/Dockerfile puts `configs/` and `front-proxy/`."""


def code_lines(page: str) -> list[str]:
    """Return the lines of a page's fenced and indented code, continued lines joined, without comments."""
    text = (ROOT / page).read_text(encoding="utf-8")
    fenced = [block.code for block in blocks(page) if block.language in SHELL]
    indented = re.findall(r"(?:^|\n\n)((?: {4,}\S.*\n)+)", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S))
    lines = re.sub(r"\\\n\s*", "", "\n".join([*fenced, *indented])).splitlines()
    return [re.sub(r"(?:^|\s)#\s.*$", "", line).strip() for line in lines]


def found_in(pattern: str) -> Iterator[str]:
    """Yield what a pattern's group matches in the code of the pages."""
    for page in PAGES:
        for line in code_lines(page):
            yield from re.findall(pattern, line)


@pytest.mark.parametrize("command", sorted(set(found_in(r"(?<!-n )\bgenseg ([a-z-]+(?: [^'|&;)]*)?)"))))
def test_a_command_line_of_the_pages_parses(command: str) -> None:
    given = parsed(shlex.split(command.replace(IN_THE_IMAGE, f"{ROOT}/")))
    config = getattr(given, "config", None) or getattr(given, "file", None)
    assert config is None or (ROOT / config).is_file()


def test_files_that_the_code_of_the_pages_names_exist() -> None:
    named = set(found_in(r"(?<![\w./-])((?:cluster|configs|serve_app|tests)/[\w./-]*\w)"))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_modules_that_the_code_of_the_pages_runs_exist() -> None:
    for name in set(found_in(r"\bpython -m ((?:serve_app|tests)[\w.]*)")):
        path = ROOT / name.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), name


def test_targets_of_make_that_the_code_of_the_pages_names_exist() -> None:
    targets = set(re.findall(r"^([\w -]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    known = {target for line in targets for target in line.split()}
    assert set(found_in(r"^make ([a-z][a-z-]*)")) <= known
