"""One line of the doctor's report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail", "no"]
"""`fail`: the configuration cannot run here. `warn`: it can, but something needs attention. `no`: a kind of
configuration that this machine cannot run, which is not a fault; see `kinds`."""


@dataclass(frozen=True)
class Check:
    """What was checked, what was found, and what to do.

    Attributes:
        group: its heading in the report.
        name: what was checked.
        status: see Status.
        found: what was found; for a fault, also why it is a fault.
        todo: what to do; may be empty.
    """

    group: str
    name: str
    status: Status
    found: str
    todo: str = ""

    @property
    def text(self) -> str:
        """What was found and what to do, on one line."""
        return f"{self.found}; {self.todo}" if self.todo else self.found


def can_run(checks: Iterable[Check]) -> bool:
    """Return whether the configuration can run, which means that no check has the status `fail`."""
    return all(check.status != "fail" for check in checks)


def gib(count: float) -> str:
    """Return a number of bytes as text.

    >>> gib(3 * 2**30), gib(50 * 2**20)
    ('3.0 GiB', '50 MiB')
    """
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:.0f} MiB"
