"""Which of the media types that a resource has does a client want? Pure. Source: RFC 9110, section 12.5.1."""

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
        """How precisely the range names a type: 0 for not at all, 1 by `*/*`, 2 by `text/*`, 3 by its name."""
        if self.kind == offered:
            return 3
        return {f"{offered.partition('/')[0]}/*": 2, "*/*": 1}.get(self.kind, 0)


def preferred(accept: str, offered: Sequence[str]) -> str:
    """Choose a media type.

    The type with the highest weight wins; the most precise range that names a type gives it its weight. Of types of the
    same weight, one that is named wins over one that a wildcard includes; then the earlier of `offered` wins.

    Args:
        accept: the header; several are joined by commas. A range whose weight cannot be read does not count.
        offered: types in lower case, the service's favourite first.

    Returns:
        One of `offered`: the first where the client accepts none of them, which RFC 9110 allows.
    """
    ranges = [each for part in accept.lower().split(",") if (each := _range(part)) is not None]

    def rank(kind: str) -> tuple[float, bool]:
        precision, weight = max(((each.precision(kind), each.weight) for each in ranges), default=(0, 0.0))
        return (weight, precision == 3) if precision and weight else (0.0, False)

    return max(offered, key=rank)  # of equals, the first


def _range(part: str) -> _Range | None:
    kind, *parameters = (each.strip() for each in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            weight = value.strip()
            return _Range(kind, float(weight)) if _WEIGHT.fullmatch(weight) else None
    return _Range(kind, 1.0)
