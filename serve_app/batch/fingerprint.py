"""What an output folder is of: the settings and rows of the job that filled it, so that no other job mixes its own in.

Rows are kept as two 64-bit digests each, of the id and of everything else.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serve_app.batch.whole_file import write_whole

VERSION = 1
_JOB_FILE = "job.json"
_ROWS_FILE = "rows.bin"

Setting = str | float | list[str] | None
"""The value of a flag or of a key of the configuration."""


@dataclass
class Fingerprint:
    """Whose results a folder holds.

    Attributes:
        settings: what decides about results, by the flag's or key's name. A job on a running service knows fewer.
        rows: digest of the row by digest of its id.
        models: the models' names as the results have them; empty before the first result.
    """

    settings: dict[str, Setting] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write it; the rows first, as they may only grow old, never wrong."""
        numbers = array("Q", (number for pair in self.rows.items() for number in pair))
        if sys.byteorder == "big":
            numbers.byteswap()
        write_whole(folder / _ROWS_FILE, numbers.tobytes())
        self.save_job(folder)

    def save_job(self, folder: Path) -> None:
        """Write everything but the rows."""
        job = {"version": VERSION, "settings": self.settings, "models": self.models}
        write_whole(folder / _JOB_FILE, json.dumps(job, indent=2).encode() + b"\n")

    @classmethod
    def load(cls, folder: Path) -> Fingerprint | None:
        """Read it back; None where no job has begun.

        Raises:
            ValueError: the files are damaged, or of another version of this package.
        """
        if not (folder / _JOB_FILE).is_file():
            return None
        job = json.loads((folder / _JOB_FILE).read_bytes())
        if job.get("version") != VERSION:
            raise ValueError("of another version")
        numbers = array("Q")
        numbers.frombytes((folder / _ROWS_FILE).read_bytes())
        if sys.byteorder == "big":
            numbers.byteswap()
        rows = dict(zip(numbers[::2], numbers[1::2], strict=True))
        return cls(job["settings"], rows, job["models"])


def settings_difference(before: Mapping[str, Setting], now: Mapping[str, Setting]) -> str | None:
    """Say what differs among the settings that both know; None if nothing does.

    Args:
        before: of the folder's last job; empty where there was none.
        now: of this job.
    """
    # Both know every flag: one that is not recorded was not given.
    flags = [name for name in {**before, **now} if name.startswith("--")] if before else []
    both = [*flags, *(name for name in now if name in before and name not in flags)]
    differing = [name for name in both if before.get(name) != now.get(name)]
    return ", ".join(f"{name} was {before.get(name)} and is {now.get(name)}" for name in differing) or None
