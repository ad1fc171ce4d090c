"""What the hub answers about the name of a model, within seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import free_port

PROGRAM = """
import sys
from serve_app.errors import CheckpointError
from serve_app.models import hub
try:
    hub.check_name(sys.argv[1])
except CheckpointError as error:
    print(error.message)
"""
UNREACHABLE = "the hub cannot be reached and the model is not in the local cache"


@contextmanager
def a_hub(status: int, code: str | None) -> Iterator[str]:
    """A hub that gives every question the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"id": "me/model", "siblings": []}).encode()
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def said_of(name: str, endpoint: str, folder: Path, **variables: str) -> str:
    """What is said of a name, in a process of its own: the hub's package reads its address when it is imported."""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(folder), "HF_HUB_OFFLINE": "0", **variables}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (200, None, ""),
        (404, "RepoNotFound", "the hub has no such model"),
        (401, "RepoNotFound", "the hub has no such model"),
        (403, "GatedRepo", ""),
        (503, None, ""),
    ],
)
def test_the_hub_says_whether_it_knows_the_model(status: int, code: str | None, words: str, tmp_path: Path) -> None:
    with a_hub(status, code) as endpoint:
        said = said_of("me/model", endpoint, tmp_path)
    assert words in said
    assert bool(said) is bool(words)
    assert said.startswith("model me/model: " if words else "")


def test_a_hub_that_cannot_be_reached_is_named_unless_the_model_is_there(tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert UNREACHABLE in said_of("me/model", nowhere, tmp_path)
    assert UNREACHABLE in said_of("me/model", nowhere, tmp_path, HF_HUB_OFFLINE="1")
    repository = tmp_path / "hub" / "models--me--model"
    snapshot = repository / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123")
    assert said_of("me/model", nowhere, tmp_path) == ""


def test_a_name_that_no_hub_has_is_named(tmp_path: Path) -> None:
    assert said_of("a b/c", "http://127.0.0.1:1", tmp_path).startswith(
        "model a b/c: is neither a local folder nor a hub name, such as facebook/sam3"
    )
