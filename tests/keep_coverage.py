"""Keeps what coverage measures in Ray's processes: Ray ends them in ways that no Python code survives.

Only for `make coverage`, which names `every_second` in the variable from which Ray's workers take a function to call
at their start. Source: ray._private.ray_constants.WORKER_PROCESS_SETUP_HOOK_ENV_VAR.
"""

from __future__ import annotations

import threading
import time

from coverage import Coverage


def every_second() -> None:
    """Write what was measured every second from now on, in a thread of its own."""
    measured = Coverage.current()
    if measured is not None:
        threading.Thread(target=_save_again_and_again, args=(measured,), name="keep_coverage", daemon=True).start()


def _save_again_and_again(measured: Coverage) -> None:
    while True:
        time.sleep(1.0)
        measured.save()
