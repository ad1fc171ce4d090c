"""Finds the images that a phrase is tied to: "the dog from image 1", "image 2's sofa", "image 1: a hat"."""

from __future__ import annotations

from collections.abc import Sequence

from serve_app.entities.mentions.image_references import ImageReference
from serve_app.entities.mentions.phrase import Phrase, only_between
from serve_app.entities.mentions.tokens import Token
from serve_app.entities.mentions.words import DEFINITE, INDEFINITE, words_of

_LINKS = words_of(
    "from in of on at as like to the same one ones that those which who is are was were appears appear found shown "
    "seen depicted pictured visible appearing present featured given provided taken exactly with within into inside "
    "per using see "
    "( , - \u2013 \u2014 [ look looks looking"
)
"""Words that may stand between a thing and the image that shows it: "the dog that is shown in image 1"."""

_LEADS = words_of("from in of on using with use take taking based per given the as for see by and")
"""Words before a reference at the beginning of a clause: "Using image 1 as ..."."""

_FOLLOWS = words_of(
    ": , - \u2013 \u2014 ( is are shows show contains contain has have depicts as take use put place keep get of"
)
_FOLLOWS_AT_ONCE = _FOLLOWS | INDEFINITE | DEFINITE
"""Words right after a reference; an article too, because "…, image 3 a cat" leaves out the verb."""

_CLAUSES = words_of("and use using take")
"""Words before a reference that begins a new clause: "… and image 2 as the lamp"."""

_OWNERS = words_of("his her its their my your our")
LONGEST_LINK = 8
"""Largest number of tokens between a thing and the reference after it."""

LONGEST_LEAD = 4
"""Largest number of tokens of `_LEADS` before a reference, and between a reference and the thing after it."""


def ties(tokens: Sequence[Token], phrases: Sequence[Phrase]) -> dict[int, list[ImageReference]]:
    """Find the references to images of each phrase.

    Args:
        tokens: all tokens of the prompt.
        phrases: the mentions of the entities, in the order of the prompt.

    Returns:
        The references by the phrase's index; a phrase without references is left out.
    """
    references: dict[int, list[ImageReference]] = {}
    for place, token in enumerate(tokens):
        if token.reference is not None:
            for phrase in _tied(tokens, phrases, place, token.reference):
                references.setdefault(phrase, []).append(token.reference)
    return references


def _tied(tokens: Sequence[Token], phrases: Sequence[Phrase], place: int, reference: ImageReference) -> list[int]:
    """Return the phrases that the reference at a token belongs to."""
    after = next((i for i, phrase in enumerate(phrases) if phrase.start > place), None)
    before = _owner_before(tokens, phrases, place)
    closed = place + 1 < len(tokens) and tokens[place + 1].text in {")", "]"}  # "(image 1) dog"
    if after is not None and (reference.owns or not before):
        mention = phrases[after].mention
        if place + 1 + closed == (mention.first if reference.owns else mention.sure):
            return [after]
    if before:
        return before
    if reference.every and _names_images_again(tokens, place):  # "use both images: the dog from image 1 …"
        return []
    if after is not None and _leads(tokens, place) and _follows(tokens, place, phrases[after].start):
        return [after, *_joined_after(tokens, phrases, after)]
    return []


def _owner_before(tokens: Sequence[Token], phrases: Sequence[Phrase], place: int) -> list[int]:
    """Return the phrase that ends before a reference, after the phrases joined to it by "and" or a comma."""
    before = next((i for i in range(len(phrases) - 1, -1, -1) if phrases[i].last < place), None)
    if before is None:
        return []
    start = phrases[before].last + 1
    while start < place and (tokens[start].kind == "reference" or tokens[start].is_number):
        start += 1  # "the dog from image 1 (and image 2)", "person 1 from image 2"
    if place - start > LONGEST_LINK or not only_between(tokens, start, place, _LINKS):
        return []
    if any(token.text == "," for token in tokens[start:place]) and _begins_clause(tokens, place):
        return []
    return [*_joined_before(tokens, phrases, before), before]


def _begins_clause(tokens: Sequence[Token], place: int) -> bool:
    """Tell whether a reference is the subject of the next clause: "…, image 2 shows a garage"."""
    return place + 1 < len(tokens) and tokens[place + 1].text in _FOLLOWS_AT_ONCE - {",", "(", "-"}


def _joined_before(tokens: Sequence[Token], phrases: Sequence[Phrase], last: int) -> list[int]:
    """Return the earlier phrases that share a reference: "dog" in "the dog and cat from image 1"."""
    joined: list[int] = []
    for index in range(last - 1, -1, -1):
        between = [token.text for token in tokens[phrases[index].last + 1 : phrases[index + 1].start]]
        if between not in (["and"], [","], [",", "and"]) or not _can_share(tokens, phrases[index], phrases[last]):
            break
        joined.insert(0, index)
    return joined


def _can_share(tokens: Sequence[Token], one: Phrase, other: Phrase) -> bool:
    """Tell whether two joined phrases can share a reference.

    They can if the second has no determiner, or if both are definite and the first has no owner.
    """
    is_bare = other.start >= other.mention.first
    is_owned = tokens[one.start].text in _OWNERS  # "his hand and the shield from image 1"
    return is_bare or (one.quantity.is_definite and other.quantity.is_definite and not is_owned)


def _joined_after(tokens: Sequence[Token], phrases: Sequence[Phrase], first: int) -> list[int]:
    joined = []
    for index in range(first + 1, len(phrases)):
        between = [token.text for token in tokens[phrases[index - 1].last + 1 : phrases[index].start]]
        if between not in (["and"], [","], [",", "and"]):
            break
        after = tokens[phrases[index].last + 1 : phrases[index].last + 4]
        if any(token.kind == "reference" for token in after):
            break
        joined.append(index)
    return joined


def _names_images_again(tokens: Sequence[Token], place: int) -> bool:
    """Tell whether the same sentence names images again."""
    for token in tokens[place + 1 :]:
        if token.kind in {"stop", "reference"}:
            return token.kind == "reference"
    return False


def _leads(tokens: Sequence[Token], place: int) -> bool:
    """Tell whether a reference begins a sentence or clause, apart from words such as "from" or "use"."""
    start = place
    while start > 0 and place - start < LONGEST_LEAD and tokens[start - 1].text in _LEADS:
        start -= 1
    return start == 0 or tokens[start - 1].kind in {"stop", "comma"} or tokens[place - 1].text in _CLAUSES


def _follows(tokens: Sequence[Token], place: int, start: int) -> bool:
    """Tell whether the thing at `start` belongs to the reference before it: "image 1: a hat", "image 1 shows a hat"."""
    between = [token.text for token in tokens[place + 1 : start]]
    if not between:  # "from image 1 the dog"
        return tokens[start].text in INDEFINITE | DEFINITE
    return (
        len(between) <= LONGEST_LEAD
        and between[0] in _FOLLOWS
        and all(word in _FOLLOWS or word in _LEADS for word in between)
    )
