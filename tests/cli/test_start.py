"""The start of a command: it imports only what it needs, and a signal at any moment prints one line."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import png

ROOT = Path(__file__).parents[2]
HEAVY = ("numpy", "httpx", "ray", "torch", "pydantic", "PIL", "yaml")
IMPORTED = """
import sys
from serve_app.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as exit_:
    code = exit_.code
names = {name.split(".")[0] for name in sys.modules} | {name for name in sys.modules if name.startswith("serve_app.")}
print("imported", *sorted(names), file=sys.stderr)
sys.exit(code)
"""


def imported_by(*argv: str) -> set[str]:
    """The libraries, and the package's own modules, that a command imports in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *argv], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].removeprefix("imported ").split())


@pytest.mark.parametrize("argv", [["--help"], ["--version"]], ids=" ".join)
def test_what_needs_no_command_imports_none_and_no_library(argv: list[str]) -> None:
    names = imported_by(*argv)
    assert names.isdisjoint(HEAVY)
    assert {name for name in names if name.startswith("serve_app.cli.")} <= {
        *("serve_app.cli.main", "serve_app.cli.commands", "serve_app.cli.options", "serve_app.cli.signals")
    }


def test_only_the_chosen_command_is_imported() -> None:
    names = imported_by("demo", "--help")
    assert "serve_app.cli.demo" in names
    assert names.isdisjoint({"serve_app.cli.batch", "serve_app.cli.serve", "serve_app.cli.check_config"})


def test_check_config_of_our_own_schema_imports_neither_ray_nor_what_handles_images(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("segmentation: {threshold: 0.4}\n")
    names = imported_by("check-config", str(config))
    assert "serve_app.cli.check_config" in names
    assert names.isdisjoint({"numpy", "httpx", "torch", "PIL", "ray"})


SLOW_LIBRARY = """
import sys, time
print("importing", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_while_libraries_are_imported_gives_one_line(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "pydantic.py").write_text(SLOW_LIBRARY)  # in the place of the real one, which takes long by chance only
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from serve_app.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", script, "run", "-p", "a dog", "-g", "x.png"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, "genseg: interrupted\n")


def catches_sigterm(pid: int) -> bool:
    """Whether a process has a handler for SIGTERM: Python itself sets one for SIGINT only."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt:"))
    return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("delay_s", [0.0, 0.03, 0.1, 0.2, 0.35, 0.5, 1.0])
def test_ctrl_c_soon_after_the_start_gives_one_line(tmp_path: Path, delay_s: float) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(png())
    with socket.socket() as silent:  # so that the command goes on until the signal comes
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-m", "serve_app", "run", "-p", "a dog", "-g", str(picture), "--url", url]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        while not catches_sigterm(process.pid) and process.poll() is None:  # until then it is Python's own start
            time.sleep(0.001)
        time.sleep(delay_s)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "genseg: interrupted\n")
