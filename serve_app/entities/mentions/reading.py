"""Reads how many of each entity a prompt asks for, what it excludes, and which contextual images it names for each.

The README describes the rules ("What was asked for").
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
"""A line of at least this many characters is joined with the next line if that begins with a lower-case letter."""

IMAGE_REFERENCE = "image reference"
"""The reason in `meta.dropped` for a phrase that only names an image."""


@dataclass(frozen=True)
class Asked:
    """What a prompt says about one entity.

    Attributes:
        entity: the phrase that the segmenter searches for.
        asked: the number that is asked for. 0: it must not be there; None: at least one.
        exact: whether more than `asked` objects are a fault.
        asked_as: the prompt's own words in lower case; None if the prompt does not mention the entity.
        sources: the contextual images that the prompt names for the entity, counted from 0.
        missing_images: images that the prompt names for the entity but the request lacks, counted from 1.
    """

    entity: str
    asked: int | None = None
    exact: bool = False
    asked_as: str | None = None
    sources: tuple[int, ...] = ()
    missing_images: tuple[int, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What a prompt says: one `Asked` for each entity in order, then one for each other thing that it excludes."""

    asked: tuple[Asked, ...]

    @property
    def entities(self) -> list[str]:
        """The phrases that the segmenter searches for."""
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
    """Read what a prompt says about the parser's entities.

    Args:
        prompt: the caller's prompt, in English.
        entities: the parser's phrases, without references to images.
        contextual_images: the number of contextual images.

    Returns:
        One `Asked` for each entity, in order and without repetitions. If the prompt changes the look of an entity, it
        has its new name ("red car"). Then one for each thing that the prompt excludes and that is not in `entities`.

    >>> [(each.entity, each.asked, each.exact) for each in read_prompt("Two dogs, no cats", ["dogs"], 0).asked]
    [('dogs', 2, True), ('cats', 0, True)]
    """
    reader = _Reader(prompt, entities, contextual_images)
    asked = [reader.read(index, entity) for index, entity in enumerate(entities)]
    return Reading((*_distinct(asked), *reader.other_exclusions(entities)))


def read_named(prompt: str, entities: Sequence[str], contextual_images: int) -> tuple[Asked, ...]:
    """Read what a prompt says about entities that the caller named.

    Args:
        prompt: the caller's prompt, in English; may be empty.
        entities: the caller's phrases, without repetitions.
        contextual_images: the number of contextual images.

    Returns:
        One `Asked` for each entity, in order. Each keeps the caller's name, even if the prompt recolours the entity.
    """
    reader = _Reader(prompt, entities, contextual_images)
    return tuple(replace(reader.read(index, entity), entity=entity) for index, entity in enumerate(entities))


class _Reader:
    """Finds a prompt's mentions, exclusions and image references, and adds them up for each entity."""

    def __init__(self, prompt: str, entities: Sequence[str], images: int) -> None:
        prompt = _normalise_spaces(prompt)
        tokens = tokenise(prompt)
        mentioned = [Phrase(mention, quantity_of(tokens, mention)) for mention in find_mentions(tokens, entities)]
        phrases = with_stand_ins(tokens, mentioned)
        self._prompt = prompt
        self._tokens = tokens
        self._phrases = phrases
        self._images = images
        # The keys and members of the following are indices of phrases.
        self._phrases_of_entity: dict[int, list[int]] = {}
        for index, phrase in enumerate(phrases):
            self._phrases_of_entity.setdefault(phrase.entity, []).append(index)
        self._ties = ties(tokens, phrases)
        excluded = exclusions(tokens, phrases)
        self._other_exclusions = [each for each in excluded if each.item.phrase is None]
        self._exclusions = {each.item.phrase: each for each in reversed(excluded) if each.item.phrase is not None}
        self._new_looks = {each.phrase: each.look for each in recolourings(tokens, phrases)}
        self._no_others = only_these(tokens, phrases)

    def read(self, entity_index: int, entity: str) -> Asked:
        """Return what the prompt says about one entity."""
        own = self._phrases_of_entity.get(entity_index, [])
        excluded = [index for index in own if index in self._exclusions and index not in self._no_others]
        wanted = [index for index in own if index not in self._exclusions and index not in self._no_others]
        if excluded and not self._is_also_wanted(excluded, wanted):
            first = self._exclusions[excluded[0]]
            quote = self._phrases[excluded[0]].quote(
                self._prompt, self._tokens, min(first.start, self._start(excluded[0]))
            )
            return Asked(entity, 0, True, _plain(quote))
        if not wanted:
            return Asked(entity)
        look = next((self._new_looks[index] for index in wanted if index in self._new_looks), None)
        name = entity if look is None else f"{look} {bare_noun(entity) or entity}"
        return self._add_up(name, wanted, is_only=any(index in self._no_others for index in own))

    def other_exclusions(self, entities: Sequence[str]) -> list[Asked]:
        """Return one `Asked` for each excluded thing that is not among the entities."""
        excluded = []
        for each in self._other_exclusions:
            stop = self._tokens[each.item.stop - 1].end
            text = self._prompt[self._tokens[each.item.first].start : stop]
            if builtin_reason(split_words(text)) is None:
                quote = self._prompt[self._tokens[each.start].start : stop]
                excluded.append(Asked(text.lower() if quote.isupper() else text, 0, True, _plain(quote)))
        known = {phrase_key(entity) for entity in entities}
        return [each for each in _distinct(excluded) if phrase_key(each.entity) not in known]

    def _add_up(self, entity: str, wanted: Sequence[int], is_only: bool) -> Asked:
        value: int | None = None
        exact = True
        sources: set[int] = set()
        missing: list[int] = []
        for index in wanted:
            quantity = self._phrases[index].quantity
            references = self._ties.get(index, ())
            named = {image for reference in references for image in reference.images(self._images)}
            lacking = [number for reference in references for number in reference.missing_images(self._images)]
            # "the dog" is the same dog as before, unless the prompt names new images for it.
            names_new = bool(named - sources or set(lacking) - set(missing))
            is_same = quantity.is_definite and index != wanted[0] and not names_new
            sources |= named
            missing += lacking
            if is_same:
                continue
            exact = exact and quantity.exact
            if quantity.value is not None:
                value = quantity.value + (value or 0)
        quote = _plain(self._phrases[wanted[0]].quote(self._prompt, self._tokens))
        is_exact = value is not None and (exact or is_only)
        if value == 0:  # "zero dogs" excludes the dogs
            return Asked(entity, 0, True, quote)
        return Asked(entity, value, is_exact, quote, tuple(sorted(sources)), tuple(dict.fromkeys(missing)))

    def _is_also_wanted(self, excluded: Sequence[int], wanted: Sequence[int]) -> bool:
        """Tell whether the prompt excludes a thing in one place and asks for it in another.

        A mention with "the" counts only if it is tied to an image. A verb such as "remove" cancels all earlier mentions
        of the thing: "a man with a hat. Remove the hat."
        """
        removed = max((index for index in excluded if self._exclusions[index].removes), default=-1)
        return any(index > removed and (self._is_new(index) or index in self._ties) for index in wanted)

    def _is_new(self, index: int) -> bool:
        """Tell whether a mention asks for something new, instead of pointing to something known ("the dog")."""
        return not self._phrases[index].quantity.is_definite

    def _start(self, index: int) -> int:
        return self._phrases[index].start


def _plain(quote: str) -> str:
    """Return a quote of the prompt in lower case, without quotation marks; the inch sign in 24" stays."""
    return re.sub(r"(?<!\d)\"|[\u201c\u201d\u00ab\u00bb]", "", quote).lower()


def _normalise_spaces(prompt: str) -> str:
    """Put one space between words, and join wrapped lines (see `WRAPPED_LINE`).

    Other line ends stay, because they end a phrase.
    """
    lines = re.sub(r"[^\S\n]*\n\s*", "\n", re.sub(r"[^\S\n]+", " ", prompt))
    return re.sub(rf"(?<=[^\n]{{{WRAPPED_LINE}}})\n(?=[a-z])", " ", lines)


def _without_reference(entity: str) -> str:
    references = image_references(entity)
    if not references:
        return "" if names_an_image(entity) else entity
    parts = []
    position = 0
    for reference in references:
        parts.append(_without_link(entity[position : reference.start]))
        position = reference.end
    parts.append(entity[position:])
    return " ".join(" ".join(parts).strip(" ,;:()[]-'\u2019").split())


def _without_link(text: str) -> str:
    """Remove last words that only introduce a reference: "hat in the" becomes "hat"."""
    words = text.rstrip("([,:- \t\n").split()
    while words and (words[-1].casefold() in PREPOSITIONS or words[-1].casefold() in _LINKING):
        words.pop()
    return " ".join(words)


_LINKING = words_of("the shown seen depicted pictured visible appearing found is are same one a an given provided")


def _distinct(asked: Iterable[Asked]) -> list[Asked]:
    first_of: dict[str, Asked] = {}
    for each in asked:
        first_of.setdefault(phrase_key(each.entity), each)
    return list(first_of.values())
