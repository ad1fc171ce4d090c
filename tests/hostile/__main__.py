"""The most expensive requests that the default limits allow, one after another, on a service with the embedded models.

python -m tests.hostile [WORD ...]        only the cases whose names contain one of the words

Beside each one /healthz is asked all the time, from a process of its own, and the memory of the service's processes is
read. After each an ordinary request is sent. The run fails if an answer is not a right one, if /healthz took a second
or was not 200, or if the ordinary request failed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import urlsplit

from serve_app.config.schema import AppConfig
from tests.hostile.request_case import PNG_BASE64
from tests.hostile.watching import Watched, ask, watch
from tests.hostile.worst_bodies import worst_bodies
from tests.hostile.worst_case import WorstCase
from tests.hostile.worst_images import worst_image_requests
from tests.stress.service import running
from tests.stress.soak import processes

SLOWEST_HEALTHZ_S = 1.0
WATCHED = ("ProxyActor", "ServeReplica:segmentation:Ingress", "ServeReplica:segmentation:SegmenterDeployment")
ORDINARY = f'{{"entities":["dog"],"generated_image":{{"data":"{PNG_BASE64}"}}}}'.encode()


def cases() -> Iterator[WorstCase]:
    """Make every case."""
    yield from worst_bodies()
    for request in worst_image_requests():
        yield WorstCase(request.name, partial(_encoded, request.body), request.statuses)


def _encoded(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def run(case: WorstCase, host: str, port: int, pipe: Connection) -> bool:
    """Send one case, print its line, and say whether all went well."""
    body = case.body()
    pipe.send(True)  # forget what was seen while the body was made
    pipe.recv()
    started = time.monotonic()
    status = ask(host, port, "POST", "/v1/segment", body, case.content_type)
    seconds = time.monotonic() - started
    started = time.monotonic()
    ordinary = ask(host, port, "POST", "/v1/segment", ORDINARY, "application/json")
    after = time.monotonic() - started
    pipe.send(True)
    seen: Watched = pipe.recv()
    right = status in case.statuses and ordinary == 200
    calm = seen.bad == 0 and seen.slowest_s < SLOWEST_HEALTHZ_S
    memory = " ".join(f"{peak:6.0f}" for peak in seen.peaks.values())
    print(
        f"{case.name:44.44} {len(body) / 2**20:6.1f} {status:7} {seconds:7.2f} "
        f"{seen.slowest_s:8.2f} {after:7.2f} {memory}{'' if right and calm else '   FAILED'}",
        flush=True,
    )
    return right and calm


def main() -> int:
    """Run the cases; 0 if all went well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*")
    words = parser.parse_args().words
    with running(AppConfig(), {}) as url:
        address = urlsplit(url)
        host, port = str(address.hostname), int(address.port or 0)
        assert ask(host, port, "POST", "/v1/segment", ORDINARY, "application/json") == 200
        found = {name.split()[0].removeprefix("ray::"): pid for name, pid in processes().items()}
        pids = {name.rpartition(":")[2]: found[name] for name in WATCHED}
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        watcher = multiprocessing.get_context("spawn").Process(target=watch, args=(host, port, pids, theirs))
        watcher.start()
        print(f"{'case':44} {'MiB':>6} {'status':>7} {'s':>7} {'healthz':>8} {'after':>7} peak MiB: {', '.join(pids)}")
        wanted = (case for case in cases() if not words or any(word in case.name for word in words))
        failed = [case.name for case in wanted if not run(case, host, port, ours)]
        ours.send(False)
        watcher.join()
    print(f"failed: {', '.join(failed)}" if failed else "all right")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
