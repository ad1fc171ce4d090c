"""The start of `genseg serve`: it reports errors within seconds, and of two starts at once only one succeeds."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from serve_app.cli import ray_address, ray_session
from serve_app.cli.console import Progress
from serve_app.cli.main import main
from serve_app.cli.options import CommandError
from serve_app.cli.serve_address import addresses
from serve_app.cli.start_lock import one_at_a_time
from serve_app.config.files import LoadedConfig
from serve_app.config.schema import AppConfig
from tests.conftest import free_port

ROOT = Path(__file__).parents[2]
SECONDS = 60
"""Of a command that does next to nothing, on a machine that does much else."""


def genseg(*argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serve_app", *argv]
    environment = {**os.environ, **variables}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
    )


@pytest.mark.parametrize("argv", [["serve"], ["serve", "configs/embedded.yaml"], ["batch", "rows.csv", "-o", "out"]])
def test_a_ray_address_at_which_nothing_answers_is_one_line(argv: list[str], tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("id,prompt,generated\n1,a dog,a.png\n")
    address = f"127.0.0.1:{free_port()}"
    argv = [str(tmp_path / each) if each in {"rows.csv", "out"} else each for each in argv]
    done = genseg(*argv, RAY_ADDRESS=address)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"genseg: no Ray cluster at {address}: ")
    assert "rpc_client" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("port", ["99999", "65536", "0", "-1", "8000.5", "8_000", "٨٠٠٠", "9" * 5000, ""])
def test_a_port_that_there_is_not_is_wrong_usage(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["serve", f"--port={port}"])
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is not a port, a whole number from 1 to 65535" in line


def test_a_port_of_a_file_that_there_is_not_is_found_before_ray_is_imported(tmp_path: Path) -> None:
    config = tmp_path / "serve.yaml"
    config.write_text(
        "http_options: {port: 99999}\napplications:\n  - {name: a, import_path: 'serve_app.app:build', args: {}}\n"
    )
    done = genseg("serve", str(config), RAY_ADDRESS="127.0.0.1:1")
    assert done.returncode in {1, 2}
    assert "99999" in done.stderr
    assert "Ray" not in done.stderr


@contextlib.contextmanager
def listening(answers: bool) -> Iterator[str]:
    """A server that is not Ray: an HTTP server, or one that never answers."""
    if answers:
        with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"127.0.0.1:{server.server_port}"
            server.shutdown()
    else:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            yield f"127.0.0.1:{silent.getsockname()[1]}"


@pytest.mark.parametrize("answers", [True, False], ids=["HTTP", "silent"])
def test_an_address_of_something_else_is_no_cluster(answers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_address, "TIMEOUT_S", 1.0)
    with listening(answers) as address, pytest.raises(CommandError, match="something else listens there"):
        ray_address.check_reachable(address)


def test_a_grpc_server_answers() -> None:
    grpc: Any = pytest.importorskip("grpc")
    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        ray_address.check_reachable(f"127.0.0.1:{port}")
    finally:
        server.stop(None)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("6379", "must be HOST:PORT"),
        ("ray://head:10001", "must be HOST:PORT"),
        ("127.0.0.1:99999", "the port must be from 1 to 65535"),
        ("127.0.0.1:port", "must be HOST:PORT"),
        (f"{'x' * 70}.example:6379", "no Ray cluster at"),
    ],
)
def test_an_address_that_is_none_is_named(address: str, words: str) -> None:
    with pytest.raises(CommandError, match=words):
        ray_address.find_cluster(address)


@pytest.mark.parametrize(
    ("variable", "found", "expected"),
    [
        ("", [], None),
        ("", ["dead:1"], None),
        ("", ["dead:1", "live:2"], "live:2"),
        ("auto", ["live:2"], "live:2"),
        ("local", ["live:2"], None),
        ("live:3", ["live:2"], "live:3"),
    ],
)
def test_the_cluster_is_the_one_named_or_one_that_answers(
    variable: str, found: list[str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(address: str) -> None:
        if address.startswith("dead"):
            raise CommandError("nobody")

    monkeypatch.setenv("RAY_ADDRESS", variable)
    monkeypatch.setattr(ray_address, "_running_here", lambda: iter(found))
    monkeypatch.setattr(ray_address, "check_reachable", check)
    assert ray_address.find_cluster(None) == expected


def test_auto_without_a_cluster_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_address, "_running_here", lambda: iter(()))
    with pytest.raises(CommandError, match="no Ray cluster runs on this machine"):
        ray_address.find_cluster("auto")


def stand_in(*flags: str) -> subprocess.Popen[bytes]:
    """A process with the flags of a raylet."""
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", *flags])


def test_a_private_ray_of_another_command_is_not_found(tmp_path: Path) -> None:
    service = stand_in("--gcs-address=127.0.0.1:1111", f"--temp_dir={tmp_path}")
    private = stand_in("--gcs-address=127.0.0.1:2222", f"--temp_dir={tmp_path}/genseg-abc")
    try:
        found = list(ray_address._running_here())
    finally:
        for process in (service, private):
            process.kill()
            process.wait()
    assert "127.0.0.1:1111" in found
    assert "127.0.0.1:2222" not in found


HOLD = """
import sys, time
from pathlib import Path
from serve_app.cli.console import Progress
from serve_app.cli.start_lock import one_at_a_time
with one_at_a_time(Progress(), Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_start_waits_for_the_first_and_outlives_its_death(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    out, entered = io.StringIO(), threading.Event()

    def second() -> None:
        with one_at_a_time(Progress(stream=out), path):
            entered.set()

    thread = threading.Thread(target=second)
    thread.start()
    time.sleep(0.5)
    assert not entered.is_set()
    assert out.getvalue() == "waiting for another genseg serve, which is starting\n"
    first.kill()
    first.communicate()
    assert entered.wait(10)
    thread.join()


def test_a_lock_is_no_link_to_a_file_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "other")
    with pytest.raises(CommandError, match="lock: "), one_at_a_time(Progress(quiet=True), tmp_path / "lock"):
        pass
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("document", "host", "expected"),
    [
        (None, "127.0.0.1", ["http://127.0.0.1:8000"]),
        ({"applications": [{"route_prefix": "/vision"}]}, "0.0.0.0", ["http://0.0.0.0:8000/vision"]),
        (
            {"applications": [{}, {"route_prefix": "/b/"}], "http_options": {"root_path": "/api/"}},
            "::1",
            ["http://[::1]:8000", "http://[::1]:8000/b"],
        ),
    ],
    ids=["alone", "prefix", "two, behind a front proxy with a path"],
)
def test_a_service_says_its_address_with_the_prefix(
    document: dict[str, Any] | None, host: str, expected: list[str]
) -> None:
    lines = addresses(LoadedConfig(AppConfig(), document), host, 8000)
    assert lines == [f"serving on {place} (docs: {place}/docs); Ctrl-C stops" for place in expected]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("INFO 2026-01-02 03:04:05,678 controller 123 -- Deploying new version of Deployment(...)", False),
        ("WARNING 2026-01-02 03:04:05,678 controller 123 -- Deployment 'Ingress' in application 'segmentation' has 1 "
         "replicas that have taken more than 10s to initialize.", False),
        ("This may be caused by a slow __init__ or reconfigure method.", False),
        ("INFO 2026-01-02 03:04:05,678 proxy 127.0.0.1 -- Proxy starting on node abc (HTTP port: 8000).", False),
        ("Task ServeController.graceful_shutdown failed. There are infinite retries remaining, so the task will be "
         "retried.", False),
        ("\rLoading weights: 100%|##########| 117/117 [00:00<00:00, 1173.69it/s]", False),
        ("INFO 2026-01-02 03:04:05,678 segmentation_Ingress abc -- Started <ray.serve._private.X object>.", False),
        ("ERROR 2026-01-02 03:04:05,678 controller 123 -- Exception in control loop", True),
        ("INFO 2026-01-02 03:04:05,678 segmentation_Ingress abc -- request r-1 /v1/segment 200", True),
        ("Traceback (most recent call last):", True),
    ],
)  # fmt: skip
def test_the_console_shows_the_lines_of_our_own_replicas(line: str, shown: bool) -> None:
    from ray._private.ray_logging import LogDeduplicator

    deduplicator = LogDeduplicator(5, None, ray_session.OUR_LINES_ONLY["RAY_DEDUP_LOGS_SKIP_REGEX"])
    batches = deduplicator.deduplicate({"ip": "1", "pid": 1, "lines": [line]})
    assert [each for batch in batches for each in batch["lines"]] == [line] * shown
