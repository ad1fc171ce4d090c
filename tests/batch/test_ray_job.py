"""`genseg batch` as a Ray job: `ray job submit` on a cluster that `ray start` made, as the documentation shows it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

import serve_app.embedded
from tests.batch.dataset import by_id, read_lines
from tests.conftest import free_port

BIN = Path(sys.executable).parent
IMAGE = Path(serve_app.embedded.__file__).parent / "images" / "generated.jpg"
ROWS = 3
TIMEOUT_S = 150


@dataclass(frozen=True)
class RayCluster:
    """A cluster of one node: the address for `ray job submit`, and the environment that commands on it need."""

    dashboard: str
    environment: dict[str, str]


@pytest.fixture
def cluster() -> Iterator[RayCluster]:
    # A short path: the sockets below it may have 107 characters in all. RAY_TMPDIR: else this cluster would take the
    # place of another one on this machine for whoever looks for one.
    with tempfile.TemporaryDirectory(prefix="rayjob-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        environment = {
            **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
            "RAY_TMPDIR": folder,
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        port = free_port()
        ports = {
            "--port": free_port(),
            "--dashboard-port": port,
            "--dashboard-agent-listen-port": free_port(),
            "--ray-client-server-port": free_port(),
        }
        flags = [f"{flag}={number}" for flag, number in ports.items()]
        with (Path(folder) / "head.log").open("w") as log:
            head = subprocess.Popen(
                [BIN / "ray", "start", "--head", "--block", "--num-cpus=4", "--include-dashboard=true", *flags],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            dashboard = f"http://127.0.0.1:{port}"
            wait_for(dashboard)
            yield RayCluster(dashboard, environment)
        finally:
            # Not `ray stop`: it ends every Ray on the machine.
            head.send_signal(signal.SIGTERM)
            try:
                head.wait(20)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(head.pid, signal.SIGKILL)


def wait_for(dashboard: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{dashboard}/api/jobs/", timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.3)
    pytest.fail("no dashboard")


def submit(cluster: RayCluster, *command: str) -> subprocess.CompletedProcess[str]:
    """Submit a job and wait for it; again where the cluster does not take jobs yet, some seconds after its start."""
    for _ in range(20):
        done = subprocess.run(
            [BIN / "ray", "job", "submit", "--address", cluster.dashboard, "--", *command],
            env=cluster.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        if "No available agent" not in done.stderr + done.stdout:
            return done
        time.sleep(1)
    return done


@pytest.mark.timeout(2 * TIMEOUT_S)
def test_batch_submitted_as_a_ray_job(cluster: RayCluster, tmp_path: Path) -> None:
    manifest, out = tmp_path / "rows.jsonl", tmp_path / "out"
    rows = [{"id": number, "prompt": "a dog next to a red sofa", "generated": str(IMAGE)} for number in range(ROWS)]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = submit(cluster, str(BIN / "genseg"), "batch", str(manifest), "--output", str(out), "--standalone")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    results = by_id(read_lines(out))
    assert set(results) == {*range(ROWS)}
    assert all(document["generated_image"]["objects"] for document in results.values())
    again = submit(cluster, str(BIN / "genseg"), "batch", str(manifest), "--output", str(out), "--standalone")
    assert again.returncode == 0, again.stdout[-2000:]
    assert by_id(read_lines(out)) == results
