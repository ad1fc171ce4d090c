"""The end of `genseg serve`: the requests under way are finished, and what was started is stopped."""

from __future__ import annotations

import time
from contextlib import suppress

from serve_app.cli import ray_session
from serve_app.cli.console import Progress
from serve_app.cli.signals import finish_undisturbed

DRAIN_CALL_S = 10.0


class ServeEnd:
    """What has to be undone when the command ends, whatever it ends by.

    Args:
        progress: told of it.
        timeout_s: how long requests under way may take.
    """

    def __init__(self, progress: Progress, timeout_s: float) -> None:
        self._progress = progress
        self._timeout_s = timeout_s
        self.joined = False
        self.leaves_serve = False
        """Serve ran before this command, and goes on."""
        self.deployed: list[str] = []
        self.serves: list[str] = []
        """The applications that may have requests under way."""

    def __call__(self) -> None:
        """Finish the requests under way, and stop what was started."""
        at_once = False
        try:
            if self.serves:
                _finish_requests(self.serves, self._timeout_s, self._progress)
        except KeyboardInterrupt:
            at_once = True
            self._progress.say("stopping at once")
        finally:
            finish_undisturbed()
            with suppress(Exception):
                self._leave_serve(at_once)
            ray_session.leave()  # of a private Ray it ends every process, also those that never came up

    def _leave_serve(self, at_once: bool) -> None:
        from ray import serve

        if self.leaves_serve:
            for name in self.deployed:
                serve.delete(name, _blocking=not at_once)
        elif self.deployed and (self.joined or (self.serves and not at_once)):
            serve.shutdown()  # also of a Ray that ends anyway: the proxy may be sending the last bytes of an answer


def _finish_requests(names: list[str], timeout_s: float, progress: Progress) -> None:
    """Make the ingresses refuse new requests, and wait until those under way are answered."""
    progress.say("stopping: requests under way are finished first; a second Ctrl-C or SIGTERM stops at once")
    deadline = time.monotonic() + timeout_s
    for name in names:
        with suppress(Exception):  # an application of others, or one that is gone
            while time.monotonic() < deadline and not _is_drained(name):
                time.sleep(0.1)


def _is_drained(name: str) -> bool:
    """Tell every ingress replica to refuse new requests; True once all were told and none has a request left."""
    from ray import serve

    states = serve.status().applications[name].deployments["Ingress"].replica_states
    replicas = sum(count for state, count in states.items() if state == "RUNNING")
    handle = serve.get_app_handle(name)
    # Ray chooses the replica of a call: after a few times as many calls as there are replicas, all have had one.
    calls = [handle.drain.remote() for _ in range(4 * replicas)]
    under_way = dict(call.result(timeout_s=DRAIN_CALL_S) for call in calls)
    return len(under_way) >= replicas and not any(under_way.values())
