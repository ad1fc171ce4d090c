"""The heap of a process of its own: memory that is freed goes back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import os, time
from pathlib import Path
from serve_app.serving.replica.heap import give_back_free_memory

def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

before = resident_mib()
chunks = [bytearray(2_000) for _ in range(50_000)]  # 100 MB of small chunks
chunks = chunks[::50]  # between what stays there are holes of 100 kB
holes = resident_mib() - before
give_back_free_memory(0.05)
give_back_free_memory(0.05)
ends = time.monotonic() + 10
while resident_mib() - before > holes / 4 and time.monotonic() < ends:
    time.sleep(0.05)
print(holes, resident_mib() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another one")
def test_holes_between_what_stays_go_back_to_the_system() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    holes, left = map(float, run.stdout.split())
    assert holes > 60, "there were no holes to give back"
    assert left < holes / 4
