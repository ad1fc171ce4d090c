"""Numbers of things in words."""

from __future__ import annotations

_SINGULARS = {"categories": "category", "classes": "class", "entities": "entity"}
"""Plurals that are more than the singular and an s."""


def counted(number: int, things: str) -> str:
    """Write a number of things.

    Args:
        number: how many.
        things: their name in the plural; only its first word is put into the singular.

    >>> counted(1, "objects"), counted(1200, "pictures not shown"), counted(1, "classes")
    ('1 object', '1,200 pictures not shown', '1 class')
    """
    noun, *rest = things.split(" ")
    if number == 1:
        noun = _SINGULARS.get(noun, noun.removesuffix("s"))
    return " ".join([f"{number:,}", noun, *rest])
