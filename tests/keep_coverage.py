"""Saves coverage data in Ray's processes, because Ray kills them before coverage could save the data at their end.

Only for `make coverage`, which names `save_often` in the variable from which Ray's workers take a function to call
at their start. Source: ray._private.ray_constants.WORKER_PROCESS_SETUP_HOOK_ENV_VAR.
"""

from __future__ import annotations

import threading
import time

from coverage import Coverage

PAUSE_S = 2.0
"""Seconds between two saves. What a process runs after its last save is not counted. A save takes some 10 ms."""


def save_often() -> None:
    """Start a thread that saves the coverage data every few seconds."""
    measured = Coverage.current()
    if measured is not None:
        threading.Thread(target=_save, args=(measured,), name="keep_coverage", daemon=True).start()


def _save(measured: Coverage) -> None:
    while True:
        time.sleep(PAUSE_S)
        measured.save()
