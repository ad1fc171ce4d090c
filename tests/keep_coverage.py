"""Keeps what coverage measures in Ray's processes: Ray ends them in ways that no Python code survives.

Only for `make coverage`, which names `again_and_again` in the variable from which Ray's workers take a function to call
at their start. Source: ray._private.ray_constants.WORKER_PROCESS_SETUP_HOOK_ENV_VAR.
"""

from __future__ import annotations

import threading
import time

from coverage import Coverage

PAUSE_S = 2.0
"""What a process does in its last seconds is lost. Each time takes some hundredths of a second."""


def again_and_again() -> None:
    """Write what was measured every few seconds from now on, in a thread of its own."""
    measured = Coverage.current()
    if measured is not None:
        threading.Thread(target=_save, args=(measured,), name="keep_coverage", daemon=True).start()


def _save(measured: Coverage) -> None:
    while True:
        time.sleep(PAUSE_S)
        measured.save()
