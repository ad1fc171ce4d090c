"""Ends `genseg serve`: finishes the requests under way, and stops what the command started."""

from __future__ import annotations

import time
from contextlib import suppress

from serve_app.cli import ray_session
from serve_app.cli.console import Progress
from serve_app.cli.signals import finish_undisturbed

DRAIN_CALL_S = 10.0


class ServeEnd:
    """Stops what the command started, however the command ends. The command sets the attributes while it starts.

    Args:
        progress: gets a line for each step.
        timeout_s: how long requests under way may take, in seconds.

    Attributes:
        joined: whether a running Ray was joined.
        leaves_serve: whether Serve ran before this command. It then keeps running.
        deployed: names of the applications that this command deployed.
        serves: names of the applications that run, and so may have requests under way.
    """

    def __init__(self, progress: Progress, timeout_s: float) -> None:
        self._progress = progress
        self._timeout_s = timeout_s
        self.joined = False
        self.leaves_serve = False
        self.deployed: list[str] = []
        self.serves: list[str] = []

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
            ray_session.leave()  # ends every process of a private Ray, also those that never became ready

    def _leave_serve(self, at_once: bool) -> None:
        from ray import serve

        if self.leaves_serve:
            for name in self.deployed:
                serve.delete(name, _blocking=not at_once)
        elif self.deployed and (self.joined or (self.serves and not at_once)):
            serve.shutdown()  # also if Ray ends anyway: the proxy may still send the last bytes of an answer


def _finish_requests(names: list[str], timeout_s: float, progress: Progress) -> None:
    """Make the ingresses refuse new requests, and wait until those under way are answered."""
    progress.say("stopping: requests under way are finished first; a second Ctrl-C or SIGTERM stops at once")
    deadline = time.monotonic() + timeout_s
    for name in names:
        with suppress(Exception):  # an application without `drain`, or one that is gone
            while time.monotonic() < deadline and not _is_drained(name):
                time.sleep(0.1)


def _is_drained(name: str) -> bool:
    """Make every ingress replica refuse new requests. Return whether each one does so and has no request left."""
    from ray import serve

    states = serve.status().applications[name].deployments["Ingress"].replica_states
    replicas = sum(count for state, count in states.items() if state == "RUNNING")
    handle = serve.get_app_handle(name)
    # Ray chooses the replica of each call. With four times as many calls as replicas, each replica should
    # get one.
    calls = [handle.drain.remote() for _ in range(4 * replicas)]
    under_way = dict(call.result(timeout_s=DRAIN_CALL_S) for call in calls)
    return len(under_way) >= replicas and not any(under_way.values())
