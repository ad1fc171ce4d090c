"""Finds the images that a prompt names: "image 1", "the second reference", "<image_1>", "both photos".

Prompts count images from 1; `ImageReference.images` counts from 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from serve_app.entities.mentions.words import CONJUNCTIONS, NUMBERS, ORDINALS, PREPOSITIONS, VERBS

# Every repetition has a bound, so that no text makes the search slow.
_ROLE = r"(?:contextual|context|conditioning|reference|ref|input|source|attached|uploaded|provided|given|example)"
_PICTURE = r"(?:images?|pictures?|photos?|photographs?|imgs?|pics?|figures?|figs?\.?|screenshots?)"
_PICTURES = r"(?:images|pictures|photos|photographs|imgs|pics|figures|figs|screenshots|references|refs|inputs)"
_SOURCE = r"(?:references?|refs?\.?|inputs?)"
_GAP = r"\s{0,2}"
_SPACE = r"\s{1,2}"
_NOUN = rf"(?:(?:{_ROLE}{_SPACE})?{_PICTURE}|{_SOURCE})"
_DIGITS = r"(?:\d{1,2}(?![\w.]\w|\w))"
_SPELLED = rf"(?:(?:{'|'.join(word for word, value in NUMBERS.items() if value <= 20)})\b)"
_NUMBER = rf"(?:{_DIGITS}|{_SPELLED})"
_AND = rf"{_GAP}(?:,{_GAP}and\b|,{_GAP}or\b|,|\band\b|\bor\b|&|\+){_GAP}"
_RANGE = rf"{_GAP}(?:-|\u2013|\bto\b|\bthrough\b){_GAP}"
_ORDINAL = rf"(?:{'|'.join(ORDINALS)}|\d{{1,2}}(?:st|nd|rd|th)|last|final)"
_DEFINITE = r"(?:the|my|your|this|these|those|our)"
_THE = rf"(?:\b{_DEFINITE}{_SPACE})?"
_LIST_ENDS = "|".join(sorted(PREPOSITIONS | VERBS | CONJUNCTIONS | {"together", "combined", "respectively"}))
_NO_NOUN = rf"(?={_GAP}(?:$|[^\w\s])|{_SPACE}(?:{_LIST_ENDS})\b)"
"""Requires that no noun follows a list of images: in "image 1 and 2 dogs", the second number counts the dogs."""


def _list_of(number: str) -> str:
    more = rf"{_RANGE}{number}|{_AND}{_NOUN}{_GAP}\#?{_GAP}{number}|{_AND}{number}{_NO_NOUN}"
    return rf"{number}(?:{more}){{0,15}}"


_LISTED = (
    rf"{_THE}(?<![\w-])(?:{_ROLE}{_SPACE})?{_PICTURES}{_GAP}\#?{_GAP}"
    rf"(?P<listed>{_NUMBER}{_AND}{_list_of(_DIGITS)}|{_SPELLED}{_AND}{_list_of(_SPELLED)})"
)
_NUMBERED = (
    rf"{_THE}(?<![\w-]){_NOUN}[\s_]{{0,2}}(?:number|no\.|nr\.)?{_GAP}\#?{_GAP}"
    rf"(?P<numbers>{_list_of(_DIGITS)}|{_list_of(_SPELLED)})"
)
_TAG = (
    rf"(?:[<\[{{]{_GAP}\|?{_GAP}(?:{_ROLE}[\s_-]{{0,2}})?(?:image|img|picture|photo|ref|reference|input)[\s_-]{{0,2}}"
    rf"(?P<tag>\d{{1,2}}){_GAP}\|?{_GAP}[>\]}}]|@(?:image|img|ref)[\s_-]?(?P<at>\d{{1,2}})\b)"
)
_ORDERED = rf"{_THE}\b(?P<ordinals>{_ORDINAL}(?:{_AND}(?:the{_SPACE})?{_ORDINAL}){{0,15}}){_SPACE}{_NOUN}\b"
_PLACED = rf"(?!{_SPACE}(?:on|over|above|hanging)\b)"
"""Pictures on a wall are things of the scene, unless "from" stands before them."""
_EVERY = (
    rf"\b(?:(?P<from_every>from{_SPACE}))?(?P<every>both|all|each|every)\b(?:{_SPACE}of)?"
    rf"(?:{_SPACE}(?:the|these|those|my|your|our|of|{_NUMBER})){{0,3}}{_SPACE}{_NOUN}\b(?(from_every)|{_PLACED})"
)
_GIVEN = (
    rf"\b{_DEFINITE}{_SPACE}(?:{_NUMBER}{_SPACE})?(?P<given>{_ROLE}{_SPACE}{_PICTURE}|{_SOURCE})\b"
    rf"|(?<=\bfrom ){_DEFINITE}{_SPACE}(?P<plain>{_PICTURE})\b(?!{_SPACE}(?:over|above|hanging)\b)"
)
_REFERENCE = re.compile(
    rf"(?:{_TAG}|{_EVERY}|{_ORDERED}|{_LISTED}|{_NUMBERED}|{_GIVEN})(?P<owner>['\u2019]s)?", re.IGNORECASE
)

_ONLY_AN_IMAGE = re.compile(rf"{_ROLE}\s+{_PICTURE}|{_SOURCE}", re.IGNORECASE)


@dataclass(frozen=True)
class ImageReference:
    """Words of a prompt that name images.

    Attributes:
        start: index of the first character in the prompt.
        end: index after the last character.
        numbers: the images named by number, counted from 1.
        last: whether the last image is named.
        every: whether all images are named.
        owns: whether the words end in a possessive: "image 2's".
        tagged: whether the words are a tag: "<image_1>" or "@image1".
    """

    start: int
    end: int
    numbers: tuple[int, ...] = ()
    last: bool = False
    every: bool = False
    owns: bool = False
    tagged: bool = False

    def images(self, count: int) -> tuple[int, ...]:
        """Return the indices of the named images, counted from 0, if there are `count` contextual images."""
        if self.every:
            return tuple(range(count))
        named = {number - 1 for number in self.numbers if 1 <= number <= count}
        return tuple(sorted(named | ({count - 1} if self.last and count else set())))

    def missing_images(self, count: int) -> tuple[int, ...]:
        """Return the named numbers, counted from 1, that exceed `count` contextual images, or are 0."""
        return tuple(number for number in self.numbers if not 1 <= number <= count)


def image_references(text: str, start: int = 0, stop: int | None = None) -> list[ImageReference]:
    """Find the words that name images, from left to right.

    Args:
        text: a prompt or a phrase.
        start: index of the first character to search.
        stop: index after the last character to search; None for the end of the text.

    >>> [each.numbers for each in image_references("the dog from image 1 and the hat of the second reference")]
    [(1,), (2,)]
    """
    return [_reference(match) for match in _REFERENCE.finditer(text, start, len(text) if stop is None else stop)]


def names_an_image(phrase: str) -> bool:
    """Tell whether a phrase does nothing but name an image, without a number: "reference photo"."""
    return _ONLY_AN_IMAGE.fullmatch(phrase.strip()) is not None


def _reference(match: re.Match[str]) -> ImageReference:
    start, end = match.span()
    owns = match["owner"] is not None
    if match["every"] or match["given"] or match["plain"]:  # "the reference" has no number: it may be any image
        return ImageReference(start, end, every=True, owns=owns)
    if match["ordinals"]:
        words = re.findall(_ORDINAL, match["ordinals"].casefold())
        numbers = tuple(ORDINALS.get(word) or int(word[:-2]) for word in words if word not in {"last", "final"})
        return ImageReference(start, end, numbers, last=len(numbers) < len(words), owns=owns)
    numbers = _numbers(match["tag"] or match["at"] or match["listed"] or match["numbers"])
    return ImageReference(start, end, numbers, owns=owns, tagged=bool(match["tag"] or match["at"]))


def _numbers(text: str) -> tuple[int, ...]:
    """Read "1", "1, 2 and 4", "2-4" or "one and two"."""
    numbers: list[int] = []
    is_range = False
    for word in re.findall(r"\d+|[a-z]+|[-\u2013]", text.casefold()):
        if word in {"-", "\u2013", "to", "through"}:
            is_range = True
        elif word.isdecimal() or word in NUMBERS:
            number = int(word) if word.isdecimal() else NUMBERS[word]
            numbers += range(numbers[-1] + 1, number + 1) if is_range and numbers else [number]
            is_range = False
    return tuple(dict.fromkeys(numbers))
