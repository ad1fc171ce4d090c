"""The result of a scenario: figures to print, and checks that must hold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """One scenario's result.

    Attributes:
        scenario: its name.
        figures: what was measured.
        checks: what had to hold, each with whether it did.
    """

    scenario: str
    figures: dict[str, Any]
    checks: dict[str, bool]

    @property
    def passed(self) -> bool:
        """Whether everything held."""
        return all(self.checks.values())

    def __str__(self) -> str:
        lines = [f"{self.scenario}: {'pass' if self.passed else 'FAIL'}"]
        lines += [f"  {'ok  ' if held else 'FAIL'} {check}" for check, held in self.checks.items()]
        lines += [f"  {name}: {json.dumps(value)}" for name, value in self.figures.items()]
        return "\n".join(lines)


def nothing_lost(tally: dict[str, Any]) -> dict[str, bool]:
    """The checks that every scenario under load shares."""
    checks = {f"0 {kind}": tally[kind] == 0 for kind in ("failed", "lost", "hung", "wrong")}
    return {"there was load": tally["requests"] > 0, **checks}
