"""One line of the doctor's report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail", "no"]
"""`fail`: the configuration does not run here. `no`: this machine has no room for one of several choices."""


@dataclass(frozen=True)
class Check:
    """What was looked at, what was found, and what to do.

    Attributes:
        group: heading under which it stands.
        name: what was looked at.
        status: see Status.
        found: what was found; of a fault, why it is one.
        todo: what to do; may be empty.
    """

    group: str
    name: str
    status: Status
    found: str
    todo: str = ""

    @property
    def text(self) -> str:
        """What was found and what to do, in one line."""
        return f"{self.found}; {self.todo}" if self.todo else self.found


def can_run(checks: Iterable[Check]) -> bool:
    """Tell whether nothing failed."""
    return all(check.status != "fail" for check in checks)


def gib(count: float) -> str:
    """Write a number of bytes.

    >>> gib(3 * 2**30), gib(50 * 2**20)
    ('3.0 GiB', '50 MiB')
    """
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:.0f} MiB"
