"""Watches a service from a process of its own: its health and its memory."""

from __future__ import annotations

import http.client
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

from tests.stress.soak import usage

PATIENCE_S = 400.0


@dataclass
class Watched:
    """What was seen beside a case: the slowest /healthz, those that were not 200, and the peak MiB of each process."""

    slowest_s: float
    bad: int
    peaks: dict[str, float]


def watch(host: str, port: int, pids: dict[str, int], pipe: Connection) -> None:
    """Ask /healthz and read memory; tell at every message what was seen since the last one. Runs in its own process."""
    seen = Watched(0.0, 0, dict.fromkeys(pids, 0.0))
    while True:
        started = time.monotonic()
        try:
            status = ask(host, port, "GET", "/healthz", b"", "")
        except (OSError, http.client.HTTPException):
            status = 0
        seen.slowest_s = max(seen.slowest_s, time.monotonic() - started)
        seen.bad += status != 200
        for name, pid in pids.items():
            seen.peaks[name] = max(seen.peaks[name], usage(pid)[0])
        if pipe.poll(0.05):
            if not pipe.recv():
                return
            pipe.send(seen)
            seen = Watched(0.0, 0, dict.fromkeys(pids, 0.0))


def ask(host: str, port: int, method: str, path: str, body: bytes, content_type: str) -> int:
    """Send a request on a connection of its own; returns its status."""
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, body, {"Content-Type": content_type} if content_type else {})
        answer = connection.getresponse()
        while answer.read(1 << 20):
            pass
        return answer.status
    finally:
        connection.close()
