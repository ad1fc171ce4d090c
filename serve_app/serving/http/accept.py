"""Choose a media type by the Accept header. Pure. Source: RFC 9110, section 12.5.1."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_WEIGHT = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


@dataclass(frozen=True)
class _Range:
    """One media range of an Accept header, such as `text/*;q=0.5`."""

    kind: str
    weight: float

    def precision(self, offered: str) -> int:
        """Return how precisely the range matches a type: 0 not at all, 1 by `*/*`, 2 by `text/*`, 3 by its name."""
        if self.kind == offered:
            return 3
        return {f"{offered.partition('/')[0]}/*": 2, "*/*": 1}.get(self.kind, 0)


def preferred(accept: str, offered: Sequence[str]) -> str:
    """Choose a media type.

    The type with the highest weight wins. The most precise range that matches a type decides its weight. If weights are
    equal, a type that is named wins over one that a wildcard matches, then the earlier of `offered`.

    Args:
        accept: the header; several headers joined by commas. A range with a malformed weight is ignored.
        offered: types in lower case, the service's preferred one first.

    Returns:
        One of `offered`; the first if the client accepts none of them, which RFC 9110 allows.

    >>> preferred("application/*;q=0.5, text/html", ["application/json", "text/html"])
    'text/html'
    """
    ranges = [each for part in accept.lower().split(",") if (each := _range(part)) is not None]

    def rank(kind: str) -> tuple[float, bool]:
        precision, weight = max(((each.precision(kind), each.weight) for each in ranges), default=(0, 0.0))
        return (weight, precision == 3) if precision and weight else (0.0, False)

    return max(offered, key=rank)  # of equal ranks, `max` returns the first


def _range(part: str) -> _Range | None:
    kind, *parameters = (each.strip() for each in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            weight = value.strip()
            return _Range(kind, float(weight)) if _WEIGHT.fullmatch(weight) else None
    return _Range(kind, 1.0)
