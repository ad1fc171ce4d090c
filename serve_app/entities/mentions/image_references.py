"""Images that a prompt names: "image 1", "the second reference", "<image_1>", "both photos". Pure text.

Prompts count images from 1, the result counts from 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from serve_app.entities.mentions.words import NUMBERS, ORDINALS

_ROLE = r"(?:contextual|context|conditioning|reference|ref|input|source|attached|uploaded|provided|given|example)"
_PICTURE = r"(?:images?|pictures?|photos?|photographs?|imgs?|pics?|figures?|figs?\.?|screenshots?)"
_SOURCE = r"(?:references?|refs?\.?|inputs?)"
_NOUN = rf"(?:(?:{_ROLE}\s+)?{_PICTURE}|{_SOURCE})"
_NUMBER = rf"(?:\d{{1,2}}(?![\w.]\w|\w)|(?:{'|'.join(word for word, value in NUMBERS.items() if value <= 20)})\b)"
_AND = r"\s*(?:,\s*and\b|,\s*or\b|,|\band\b|\bor\b|&|\+)\s*"
_RANGE = r"\s*(?:-|\u2013|\bto\b|\bthrough\b)\s*"
_ORDINAL = rf"(?:{'|'.join(ORDINALS)}|\d{{1,2}}(?:st|nd|rd|th)|last|final)"
_THE = r"(?:\b(?:the|my|your|this|these|those|our)\s+)?"

_NUMBERED = (
    rf"{_THE}(?<![\w-]){_NOUN}[\s_]*(?:number|no\.|nr\.)?\s*\#?\s*"
    rf"(?P<numbers>{_NUMBER}(?:(?:{_RANGE}|{_AND})(?:{_NOUN}\s*\#?)?\s*{_NUMBER})*)"
)
_TAG = (
    rf"(?:[<\[{{]\s*\|?\s*(?:{_ROLE}[\s_-]*)?(?:image|img|picture|photo|ref|reference|input)[\s_-]*"
    r"(?P<tag>\d{1,2})\s*\|?\s*[>\]}]|@(?:image|img|ref)[\s_-]?(?P<at>\d{1,2})\b)"
)
_ORDERED = rf"{_THE}\b(?P<ordinals>{_ORDINAL}(?:{_AND}(?:the\s+)?{_ORDINAL})*)\s+{_NOUN}\b"
_EVERY = (
    rf"\b(?P<every>both|all|each|every)\b(?:\s+of)?(?:\s+(?:the|these|those|my|your|our|of|{_NUMBER}))*"
    rf"\s+{_NOUN}\b(?!\s+(?:on|over|above|hanging)\b)"
)
_GIVEN = rf"\b(?:the|my|your|this|these|those|our)\s+(?:{_NUMBER}\s+)?(?P<given>{_ROLE}\s+{_PICTURE}|{_SOURCE})\b"
_REFERENCE = re.compile(rf"(?:{_TAG}|{_EVERY}|{_ORDERED}|{_NUMBERED}|{_GIVEN})(?P<owner>['\u2019]s)?", re.IGNORECASE)

_ONLY_AN_IMAGE = re.compile(rf"{_ROLE}\s+{_PICTURE}|{_SOURCE}", re.IGNORECASE)


@dataclass(frozen=True)
class ImageReference:
    """A place of a prompt that names images.

    `numbers` counts from 1; `last` and `every` stand beside them. `owns` is true for "image 2's".
    """

    start: int
    end: int
    numbers: tuple[int, ...] = ()
    last: bool = False
    every: bool = False
    owns: bool = False
    tagged: bool = False

    def images(self, count: int) -> tuple[int, ...]:
        """Return the contextual images that are meant, from 0, of `count`."""
        if self.every:
            return tuple(range(count))
        named = {number - 1 for number in self.numbers if 1 <= number <= count}
        return tuple(sorted(named | ({count - 1} if self.last and count else set())))

    def beyond(self, count: int) -> tuple[int, ...]:
        """Return the numbers, as the prompt gives them, that no contextual image has."""
        return tuple(number for number in self.numbers if not 1 <= number <= count)


def image_references(text: str) -> list[ImageReference]:
    """Find the places that name images, from left to right.

    >>> [found.numbers for found in image_references("the dog from image 1 and the hat of the second reference")]
    [(1,), (2,)]
    """
    return [_reference(match) for match in _REFERENCE.finditer(text)]


def names_an_image(phrase: str) -> bool:
    """Tell whether a whole phrase only names an image without a number: "reference photo"."""
    return _ONLY_AN_IMAGE.fullmatch(phrase.strip()) is not None


def _reference(match: re.Match[str]) -> ImageReference:
    start, end = match.span()
    owns = match["owner"] is not None
    if match["every"] or (match["given"] and match["given"].casefold().endswith("s")):
        return ImageReference(start, end, every=True, owns=owns)
    if match["given"]:  # "the reference": the only one, or any of them
        return ImageReference(start, end, every=True, owns=owns)
    if match["ordinals"]:
        words = re.findall(_ORDINAL, match["ordinals"].casefold())
        numbers = tuple(ORDINALS.get(word) or int(word[:-2]) for word in words if word not in {"last", "final"})
        return ImageReference(start, end, numbers, last=len(numbers) < len(words), owns=owns)
    numbers = _numbers(match["tag"] or match["at"] or match["numbers"])
    return ImageReference(start, end, numbers, owns=owns, tagged=bool(match["tag"] or match["at"]))


def _numbers(text: str) -> tuple[int, ...]:
    """Read "1", "1, 2 and 4", "2-4" or "one and two"."""
    found: list[int] = []
    is_range = False
    for word in re.findall(r"\d+|[a-z]+|[-\u2013]", text.casefold()):
        if word in {"-", "\u2013", "to", "through"}:
            is_range = True
        elif word.isdecimal() or word in NUMBERS:
            number = int(word) if word.isdecimal() else NUMBERS[word]
            found += range(found[-1] + 1, number + 1) if is_range and found else [number]
            is_range = False
    return tuple(dict.fromkeys(found))
