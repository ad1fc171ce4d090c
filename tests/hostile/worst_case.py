"""The most expensive request of one step that the default limits allow, and its right answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class WorstCase:
    """One request; its body is made when it is sent, since many together would not fit into memory.

    Attributes:
        name: unique; the step and what is large in it.
        body: makes the bytes.
        statuses: right answers.
        content_type: of the body.
    """

    name: str
    body: Callable[[], bytes]
    statuses: frozenset[int]
    content_type: str = "application/json"
