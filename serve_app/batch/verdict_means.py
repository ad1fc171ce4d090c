"""Computes means of a dataset's verdicts: over all rows, and over the rows of each group."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypedDict

from pydantic import JsonValue

from serve_app.schemas.dicts import VerdictDict

GROUP = "group"
"""The column of the manifest that names a row's group, such as the model that generated its image."""


class MeanDict(TypedDict):
    """A mean and the number of rows that it covers. Without any rows, `mean` is null."""

    mean: float | None
    rows: int


class GroupDict(TypedDict):
    """The number of rows with a verdict, and the means of their values that are not null.

    The mean of `arrived` is the share of rows where it is true, among the rows where it is not null.
    """

    rows: int
    arrived: MeanDict
    entities: MeanDict
    identity: MeanDict
    collapsed: MeanDict


class VerdictSummary(TypedDict):
    """The means over all rows, and by group in the order of their names; "" means rows without a group."""

    all: GroupDict
    groups: dict[str, GroupDict]


def group_of(columns: Mapping[str, JsonValue]) -> str:
    """Return the name of a row's group; "" for a row without one.

    Args:
        columns: the row's extra columns. A group that is not text is written as JSON, so 1 and "1" are the same group.

    >>> group_of({"group": "sdxl"}), group_of({"group": 7}), group_of({"seed": 7})
    ('sdxl', '7', '')
    """
    group = columns.get(GROUP)
    if group is None:
        return ""
    return group if isinstance(group, str) else json.dumps(group, ensure_ascii=False)


@dataclass
class _Sum:
    """An exact sum, so that the order in which rows finish does not change a mean."""

    total: Fraction = Fraction()
    rows: int = 0

    def add(self, value: float | None) -> None:
        if value is not None:
            self.total += Fraction(value)
            self.rows += 1

    def mean(self) -> MeanDict:
        return {"mean": float(self.total / self.rows) if self.rows else None, "rows": self.rows}


@dataclass
class _Group:
    rows: int = 0
    arrived: _Sum = field(default_factory=_Sum)
    entities: _Sum = field(default_factory=_Sum)
    identity: _Sum = field(default_factory=_Sum)
    collapsed: _Sum = field(default_factory=_Sum)

    def add(self, verdict: VerdictDict) -> None:
        scores = verdict["scores"]
        self.rows += 1
        self.arrived.add(verdict["arrived"])
        self.entities.add(scores["entities"])
        self.identity.add(scores["identity"])
        self.collapsed.add(scores["collapsed"])

    def means(self) -> GroupDict:
        return {
            "rows": self.rows,
            "arrived": self.arrived.mean(),
            "entities": self.entities.mean(),
            "identity": self.identity.mean(),
            "collapsed": self.collapsed.mean(),
        }


class VerdictMeans:
    """Collects the verdicts of rows."""

    def __init__(self) -> None:
        self._all = _Group()
        self._groups: dict[str, _Group] = defaultdict(_Group)

    def add(self, group: str, verdict: VerdictDict) -> None:
        """Add the verdict of one row.

        Args:
            group: the row's group; see `group_of`.
            verdict: the row's verdict.
        """
        self._all.add(verdict)
        self._groups[group].add(verdict)

    @property
    def rows(self) -> int:
        """The number of rows with a verdict."""
        return self._all.rows

    @property
    def arrived(self) -> int:
        """The number of rows whose verdict says that everything arrived."""
        return int(self._all.arrived.total)

    @property
    def judged(self) -> int:
        """The number of rows whose verdict says whether everything arrived."""
        return self._all.arrived.rows

    def summary(self) -> VerdictSummary | None:
        """Return the means; None if no row has a verdict."""
        if not self.rows:
            return None
        groups = {name: group.means() for name, group in sorted(self._groups.items())}
        return {"all": self._all.means(), "groups": groups}
