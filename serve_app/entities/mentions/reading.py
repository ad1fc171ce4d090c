"""Reads how many of each entity a prompt asks for, what must not be there, and which images show an entity.

Pure text. The rules are those of the README's section "Did it arrive?".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from serve_app.entities.filter import Dropped, builtin_reason
from serve_app.entities.mentions.bare_noun import bare_noun
from serve_app.entities.mentions.exclusions import exclusions, only_these
from serve_app.entities.mentions.image_references import image_references, names_an_image
from serve_app.entities.mentions.noun_phrases import find_mentions
from serve_app.entities.mentions.phrase import Phrase
from serve_app.entities.mentions.quantities import quantity_of
from serve_app.entities.mentions.recolouring import recolourings
from serve_app.entities.mentions.stand_ins import with_stand_ins
from serve_app.entities.mentions.ties import ties
from serve_app.entities.mentions.tokens import tokenise
from serve_app.entities.mentions.words import PREPOSITIONS, words_of
from serve_app.entities.phrases import distinct
from serve_app.entities.words import split_words
from serve_app.schemas.phrase_key import phrase_key

WRAPPED_LINE = 50
"""A line of at least this many characters is joined with the next one if that begins in lower case."""

IMAGE_REFERENCE = "image reference"
"""The reason in `meta.dropped` for a phrase that only names an image."""


@dataclass(frozen=True)
class Asked:
    """What a prompt asks for of one entity.

    Attributes:
        entity: the phrase that is segmented.
        asked: the number; 0 if the entity must not be there, None if one is enough.
        exact: whether more than `asked` are too many.
        asked_as: the prompt's own words in lower case; None if the prompt does not mention the entity.
        sources: the contextual images that the prompt names for the entity, counted from 0.
        beyond: numbers of images, counted from 1, that the prompt names for the entity but that were not given.
    """

    entity: str
    asked: int | None = None
    exact: bool = False
    asked_as: str | None = None
    sources: tuple[int, ...] = ()
    beyond: tuple[int, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What a prompt asks for: one `Asked` for each entity in order, then those for other things that it excludes."""

    asked: tuple[Asked, ...]

    @property
    def entities(self) -> list[str]:
        """The phrases to segment."""
        return [each.entity for each in self.asked]


def without_references(entities: Iterable[str]) -> tuple[list[str], list[Dropped]]:
    """Remove references to images from phrases.

    Args:
        entities: the parser's phrases.

    Returns:
        The phrases without references and repetitions, and the dropped phrases, which only name an image.

    >>> without_references(["dog from image 1", "first image", "image 2's sofa"])
    (['dog', 'sofa'], [Dropped(entity='first image', reason='image reference')])
    """
    kept: list[str] = []
    dropped: list[Dropped] = []
    for entity in entities:
        phrase = _without_reference(entity)
        if phrase:
            kept.append(phrase)
        else:
            dropped.append(Dropped(entity, IMAGE_REFERENCE))
    return distinct(kept), dropped


def read_prompt(prompt: str, entities: Sequence[str], contextual_images: int) -> Reading:
    """Read what a prompt asks for of the parser's entities.

    Args:
        prompt: the caller's prompt, in English.
        entities: the phrases that are segmented, without references to images.
        contextual_images: the number of contextual images.

    Returns:
        One `Asked` for each entity, in order and without repetitions; a recoloured entity has its new name. Then one
        for each thing that the prompt excludes and `entities` lacks.

    >>> [(each.entity, each.asked, each.exact) for each in read_prompt("Two dogs, no cats", ["dogs"], 0).asked]
    [('dogs', 2, True), ('cats', 0, True)]
    """
    reader = _Reader(prompt, entities, contextual_images)
    asked = [reader.asked(index, entity) for index, entity in enumerate(entities)]
    return Reading((*_distinct(asked), *reader.excluded_besides(entities)))


def read_named(prompt: str, entities: Sequence[str], contextual_images: int) -> tuple[Asked, ...]:
    """Read what a prompt asks for of entities that the caller named.

    Args:
        prompt: the caller's prompt, in English; may be empty.
        entities: the caller's phrases, without repetitions.
        contextual_images: the number of contextual images.

    Returns:
        One `Asked` for each entity, in order. It keeps the caller's name, even if the prompt recolours the entity.
    """
    reader = _Reader(prompt, entities, contextual_images)
    return tuple(replace(reader.asked(index, entity), entity=entity) for index, entity in enumerate(entities))


class _Reader:
    """Adds up the mentions of each entity."""

    def __init__(self, prompt: str, entities: Sequence[str], images: int) -> None:
        prompt = _spaced_once(prompt)
        tokens = tokenise(prompt)
        mentioned = [Phrase(mention, quantity_of(tokens, mention)) for mention in find_mentions(tokens, entities)]
        phrases = with_stand_ins(tokens, mentioned)
        self._prompt = prompt
        self._tokens = tokens
        self._phrases = phrases
        self._images = images
        self._places: dict[int, list[int]] = {}
        for place, phrase in enumerate(phrases):
            self._places.setdefault(phrase.entity, []).append(place)
        self._ties = ties(tokens, phrases)
        found = exclusions(tokens, phrases)
        self._left_out = [each for each in found if each.item.phrase is None]
        self._exclusions = {each.item.phrase: each for each in reversed(found) if each.item.phrase is not None}
        self._looks = {each.phrase: each.look for each in recolourings(tokens, phrases)}
        self._only = only_these(tokens, phrases)

    def asked(self, index: int, entity: str) -> Asked:
        """Add up the mentions of one entity."""
        own = self._places.get(index, [])
        excluded = [place for place in own if place in self._exclusions and place not in self._only]
        wanted = [place for place in own if place not in self._exclusions and place not in self._only]
        if excluded and not self._comes_back(excluded, wanted):
            first = self._exclusions[excluded[0]]
            quote = self._phrases[excluded[0]].quote(
                self._prompt, self._tokens, min(first.start, self._start(excluded[0]))
            )
            return Asked(entity, 0, True, _plain(quote))
        if not wanted:
            return Asked(entity)
        look = next((self._looks[place] for place in wanted if place in self._looks), None)
        name = entity if look is None else f"{look} {bare_noun(entity) or entity}"
        return self._sum(name, wanted, is_only=any(place in self._only for place in own))

    def excluded_besides(self, entities: Sequence[str]) -> list[Asked]:
        """Return one `Asked` for each excluded thing that is not among the entities."""
        found = []
        for each in self._left_out:
            stop = self._tokens[each.item.stop - 1].end
            text = self._prompt[self._tokens[each.item.first].start : stop]
            if builtin_reason(split_words(text)) is None:
                quote = self._prompt[self._tokens[each.start].start : stop]
                found.append(Asked(text.lower() if quote.isupper() else text, 0, True, _plain(quote)))
        known = {phrase_key(entity) for entity in entities}
        return [each for each in _distinct(found) if phrase_key(each.entity) not in known]

    def _sum(self, entity: str, places: Sequence[int], is_only: bool) -> Asked:
        value: int | None = None
        exact = True
        sources: set[int] = set()
        beyond: list[int] = []
        for place in places:
            quantity = self._phrases[place].quantity
            named = {image for found in self._ties.get(place, ()) for image in found.images(self._images)}
            missing = [number for found in self._ties.get(place, ()) for number in found.beyond(self._images)]
            is_same = (
                quantity.is_definite and place != places[0] and not (named - sources or set(missing) - set(beyond))
            )
            sources |= named
            beyond += missing
            if is_same:
                continue
            exact = exact and quantity.exact
            if quantity.value is not None:
                value = quantity.value + (value or 0)
        quote = _plain(self._phrases[places[0]].quote(self._prompt, self._tokens))
        is_exact = value is not None and (exact or is_only)
        if value == 0:  # "zero dogs"
            return Asked(entity, 0, True, quote)
        return Asked(entity, value, is_exact, quote, tuple(sorted(sources)), tuple(dict.fromkeys(beyond)))

    def _comes_back(self, excluded: Sequence[int], wanted: Sequence[int]) -> bool:
        """Tell whether a thing is asked for although one of its mentions is excluded.

        Verbs such as "remove" override earlier mentions: "a man with a hat. Remove the hat."
        """
        removed = max((place for place in excluded if self._exclusions[place].removes), default=-1)
        return any(place > removed and (self._is_new(place) or place in self._ties) for place in wanted)

    def _is_new(self, place: int) -> bool:
        """Tell whether a mention asks for something new, instead of pointing to something known ("the dog")."""
        return not self._phrases[place].quantity.is_definite

    def _start(self, place: int) -> int:
        return self._phrases[place].start


def _plain(quote: str) -> str:
    """Return a quote of the prompt in lower case, without quotation marks; the inch sign in 24" stays."""
    return re.sub(r"(?<!\d)\"|[\u201c\u201d\u00ab\u00bb]", "", quote).lower()


def _spaced_once(prompt: str) -> str:
    """Put one space between words, and join wrapped lines. Other line ends stay, because they end a phrase."""
    lines = re.sub(r"[^\S\n]*\n\s*", "\n", re.sub(r"[^\S\n]+", " ", prompt))
    return re.sub(rf"(?<=[^\n]{{{WRAPPED_LINE}}})\n(?=[a-z])", " ", lines)


def _without_reference(entity: str) -> str:
    found = image_references(entity)
    if not found:
        return "" if names_an_image(entity) else entity
    parts = []
    position = 0
    for reference in found:
        parts.append(_without_link(entity[position : reference.start]))
        position = reference.end
    parts.append(entity[position:])
    return " ".join(" ".join(parts).strip(" ,;:()[]-'\u2019").split())


def _without_link(text: str) -> str:
    """Leave out the last words if they only led to a reference: "hat in the", "dog shown in"."""
    words = text.rstrip("([,:- \t\n").split()
    while words and (words[-1].casefold() in PREPOSITIONS or words[-1].casefold() in _LINKING):
        words.pop()
    return " ".join(words)


_LINKING = words_of("the shown seen depicted pictured visible appearing found is are same one a an given provided")


def _distinct(found: Iterable[Asked]) -> list[Asked]:
    first_of: dict[str, Asked] = {}
    for each in found:
        first_of.setdefault(phrase_key(each.entity), each)
    return list(first_of.values())
