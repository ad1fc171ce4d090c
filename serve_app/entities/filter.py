"""The entity filter: drops phrases that describe the picture and name no thing in it.

The filter works on English noun phrases. The words before the first preposition are the phrase's head, and the last
word of the head says what the phrase names ("soft shadows | on the wall": shadows). The module reads the
configuration's `entity_filter` section; it does not use a model.

The rules are tried from top to bottom, and the first that applies decides. A "but" row shows an exception to the rule
above it; an "or" row shows another case of that rule. The lists are in `terms`; `excluded_terms` is a key of the
configuration.

  phrase                 | rule                                         | lists                            | result
  -----------------------+----------------------------------------------+----------------------------------+---------
  <lora:add_detail:0.8>  | a tag of the prompt (see `prompt_syntax`)    |                                  | prompt tag
  fog over the lake      | begins with an excluded term (here: fog)     | excluded_terms                   | excluded
  fog machine            | but a thing follows the term                 | excluded_terms                   | kept
  with soft lighting     | a leading preposition is ignored             | PREPOSITIONS                     | lighting
  black and white cat    | "black and white" is one adjective           |                                  | kept
  light and shadow       | all parts of an and/or are about the picture |                                  | lighting
  woman and shadow       | but one part is a thing                      |                                  | kept
  string lights          | the head contains a known thing              | THINGS                           | kept
  shallow depth of field | a term with a preposition begins in the head | ALWAYS                           | camera
  beam of light          | the words after "of" decide (here: light)    | OF_WHAT                          | lighting
  pool of water          | but water is a thing                         | OF_WHAT                          | kept
  neon glow              | a term ends the head                         | ALWAYS                           | lighting
  photo on the desk      | a preposition places a picture in the scene  | PICTURES, PLACING                | kept
  photo of a desk        | but other prepositions do not                | PICTURES                         | camera
  shot of whiskey        | the head is "shot", and "of" follows         |                                  | kept
  soft golden light      | a term ends the head, after adjectives       | BESIDE_ADJECTIVES, ADJECTIVES    | lighting
  window light           | or after a source of light                   | BESIDE_ADJECTIVES, LIGHT_SOURCES | lighting
  winter landscape       | or after a time                              | BESIDE_ADJECTIVES, TIMES         | scene
  ink illustration       | or after a material                          | BESIDE_ADJECTIVES, MEDIA         | style
  drone shot             | or after a device or place for taking photos | BESIDE_ADJECTIVES, SHOOTING      | camera
  white light            | or after neutral words                       | BESIDE_ADJECTIVES, FILLERS       | lighting
  low angle shot         | or after words about the picture             | BESIDE_ADJECTIVES, ALWAYS        | camera
  desert landscape       | but not after other words                    | BESIDE_ADJECTIVES                | kept
  oil painting           | a term ends the head, after a specific word  | ONLY_WITH_ADJECTIVES, SPECIFIC   | style
  abstract painting      | but not after other adjectives               | ONLY_WITH_ADJECTIVES, ADJECTIVES | kept
  highly detailed        | the phrase has adjectives only               | ADJECTIVES                       | quality
  light brown cabinet    | no rule above applies                        |                                  | kept
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from serve_app.config.models import EMBEDDED
from serve_app.config.schema import AppConfig, EntityFilterConfig
from serve_app.entities import terms
from serve_app.entities.prompt_syntax import is_tag, read_prompt, tags_in
from serve_app.entities.words import Forms, Words, all_forms, forms_of, split_words, without_article

EXCLUDED = "excluded by config"
PROMPT_TAG = "prompt tag"
NOT_COPIED = "not in the prompt"
MAX_WORDS = 48
"""A phrase with more words is kept without applying the rules. This limits the recursion and the work."""

_OPTICS = re.compile(r"(?:f/?\d+(?:\.\d+)?|f\.\d+|\d+mm|iso\d+|\d+k|\d+fps|\d{3,4}p)$")


class Dropped(NamedTuple):
    """An entity that was removed, and a short reason for the user."""

    entity: str
    reason: str


@dataclass(frozen=True)
class FilterResult:
    """What the filter kept and what it dropped, both in the order given."""

    kept: list[str]
    dropped: list[Dropped]


class EntityFilter:
    """Drops phrases about lighting, mood, style, camera, quality or scene, and the terms that a configuration excludes.

    Prompt tags such as `<lora:x:0.8>` are always dropped. The module's docstring shows the rules.

    Args:
        config: further terms, and which rules apply. A term matches singular and plural, in upper and lower case.
        copies: whether the parser uses only words of the prompt. This decides when `only_from_prompt` is null.
    """

    def __init__(self, config: EntityFilterConfig, *, copies: bool = False) -> None:
        self._builtin = config.builtin_terms
        self._only_from_prompt = copies if config.only_from_prompt is None else config.only_from_prompt
        split = (split_words(term) for term in config.excluded_terms)
        self._excluded = [all_forms(words) for words in split if words]

    @classmethod
    def of(cls, config: AppConfig) -> EntityFilter:
        """Build the filter for a configuration. Only the embedded parser copies words; others may translate."""
        parser = config.models.text_parser
        return cls(config.entity_filter, copies=(parser.engine, parser.model_name) == ("transformers", EMBEDDED))

    def apply(self, entities: Iterable[str], prompt: str | None = None) -> FilterResult:
        """Sort entities into those to segment and those to drop.

        Args:
            entities: phrases from the parser.
            prompt: the prompt that was parsed; None skips the rule that compares phrases with it.

        Returns:
            The kept and the dropped phrases, unchanged and in the order given. The prompt's own tags are appended to
            the dropped phrases, because the parser does not see them.
        """
        result = FilterResult([], [])
        known = (
            None if prompt is None or not self._only_from_prompt else _known_words(f"{prompt} {read_prompt(prompt)}")
        )
        for entity in entities:
            reason = self.reason(entity)
            if reason is None and known is not None and not all(forms & known for forms in _forms_in(entity)):
                reason = NOT_COPIED
            if reason is None:
                result.kept.append(entity)
            else:
                result.dropped.append(Dropped(entity, reason))
        seen = {entity for entity, _ in result.dropped}
        result.dropped.extend(Dropped(tag, PROMPT_TAG) for tag in tags_in(prompt or "") if tag not in seen)
        return result

    def reason(self, entity: str) -> str | None:
        """Say why an entity is dropped, for any prompt; None if it is kept.

        >>> entity_filter = EntityFilter(EntityFilterConfig(excluded_terms=("fog",)))
        >>> [entity_filter.reason(phrase) for phrase in ("fog", "fog machine", "soft golden light", "traffic light")]
        ['excluded by config', None, 'lighting', None]
        """
        if is_tag(entity):
            return PROMPT_TAG
        words = split_words(entity)
        if any(_leads(term, words) for term in self._excluded):
            return EXCLUDED
        return builtin_reason(words) if self._builtin else None


def _forms_in(text: str) -> Forms:
    return all_forms(split_words(text))


def _known_words(prompt: str) -> frozenset[str]:
    """Return the words of a prompt in all forms, also without leading digits ("1girl" gives "girl")."""
    forms = frozenset[str]().union(*_forms_in(prompt))
    return forms | {word.lstrip("0123456789") for word in forms}


def builtin_reason(words: Words) -> str | None:
    """Return the category of a phrase that describes the picture, by the built-in lists.

    Args:
        words: the phrase, in lower case, without hyphens and leading articles (see `split_words`).

    Returns:
        "lighting", "mood", "style", "camera", "quality" or "scene"; None for a thing, for no words, and for more than
        `MAX_WORDS` words.
    """
    if len(words) > MAX_WORDS:
        return None
    while len(words) > 1 and words[0] in terms.PREPOSITIONS:  # "in the style of", "with soft lighting"
        words = without_article(words[1:])
    if not words:
        return None
    if words[:3] == ("black", "and", "white"):  # one adjective, not two things
        words = ("monochrome", *words[3:])
    parts = _conjuncts(words)
    if len(parts) > 1 and _category(words, terms.ALWAYS) is None:
        reasons = [builtin_reason(part) for part in parts]
        return None if None in reasons else reasons[0]
    return _phrase_reason(words)


def _phrase_reason(words: Words) -> str | None:
    cut = next((i for i, word in enumerate(words) if i and word in terms.PREPOSITIONS), len(words))
    head, tail = words[:cut], words[cut:]
    if _is_thing(head):
        return None
    for start in range(cut):  # terms with a preposition inside, such as "shallow depth of field"
        spanning = _category(words[start:], terms.ALWAYS)
        if spanning is not None:
            return spanning
    if tail and tail[0] == "of" and forms_of(head[-1]) & terms.OF_WHAT:
        return _quantity_reason(head, without_article(tail[1:]))
    return _head_reason(head, tail) or (None if tail else _adjectives_reason(head))


def _quantity_reason(head: Words, content: Words) -> str | None:
    """Judge "beam of light" by "light"; without words after "of", judge the head alone."""
    reason = builtin_reason(content) if content else None
    return reason if content else _head_reason(head, ())


def _head_reason(head: Words, tail: Words) -> str | None:
    """Judge a head such as "soft golden light" by its last words."""
    always = _split_category(head, terms.ALWAYS)
    if always is not None:
        return always[0]
    if tail and tail[0] in terms.PLACING and forms_of(head[-1]) & terms.PICTURES:
        return None
    if head == ("shot",) and tail[:1] == ("of",):  # "shot of whiskey"
        return None
    split = _split_category(head, terms.BESIDE_ADJECTIVES)
    if split is not None:
        category, modifiers = split
        return category if _all_describe(modifiers, head[-1]) else None
    split = _split_category(head, terms.ONLY_WITH_ADJECTIVES)
    if split is not None:
        category, modifiers = split
        return category if modifiers and _all_specific(modifiers, category) else None
    return None


def _all_describe(modifiers: Words, head: str) -> bool:
    """Tell whether all words before a head fit a head that describes the picture ("soft golden | light")."""
    if head != "light" and "light" in forms_of(head):  # counted lights are lamps, unless an adjective says otherwise
        return all(_adjective_category(word) is not None for word in modifiers)
    nouns = terms.LIGHT_SOURCES if head == "light" else terms.TIMES | terms.MEDIA | terms.SHOOTING
    if all(_adjective_category(word) is not None or word in nouns or _is_filler(word) for word in modifiers):
        return True
    return _phrase_reason(modifiers) is not None  # "low angle shot": "low angle" describes the picture


def _all_specific(modifiers: Words, category: str) -> bool:
    """Tell whether the words before a head make it describe the picture: "oil" before "painting" does."""
    specific = terms.SPECIFIC.get(category, terms.ADJECTIVES[category])
    fits = [word in specific or _OPTICS.match(word) is not None for word in modifiers]
    return any(fits) and all(fit or _is_filler(word) for fit, word in zip(fits, modifiers, strict=True))


def _is_filler(word: str) -> bool:
    return word in terms.FILLERS or word.isdecimal()


def _adjectives_reason(words: Words) -> str | None:
    """Judge a phrase without a noun, such as "highly detailed" or "cozy"."""
    categories = [_adjective_category(word) or _category((word,), terms.ALWAYS) for word in words]
    if any(category is None and not _is_filler(word) for category, word in zip(categories, words, strict=True)):
        return None
    return next((category for category in reversed(categories) if category is not None), None)


def _adjective_category(word: str) -> str | None:
    if _OPTICS.match(word):
        return terms.CAMERA if not word.endswith(("k", "p")) else terms.QUALITY
    return next((category for category, words in terms.ADJECTIVES.items() if word in words), None)


def _category(words: Words, vocabulary: Mapping[str, frozenset[Words]]) -> str | None:
    """Find the category that holds exactly these words, in the singular or plural."""
    candidates = _singulars(words)
    return next((category for category, known in vocabulary.items() if not known.isdisjoint(candidates)), None)


def _split_category(head: Words, vocabulary: Mapping[str, frozenset[Words]]) -> tuple[str, Words] | None:
    """Find the longest known ending of a head; return its category and the words before it."""
    for start in range(len(head)):
        category = _category(head[start:], vocabulary)
        if category is not None:
            return category, head[:start]
    return None


def _is_thing(head: Words) -> bool:
    return any(not terms.THINGS.isdisjoint(_singulars(head[start:])) for start in range(len(head)))


def _singulars(words: Words) -> list[Words]:
    return [(*words[:-1], form) for form in sorted(forms_of(words[-1]))]


def _conjuncts(words: Words) -> list[Words]:
    """Split "light and shadow" at its conjunctions."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word in {"and", "or"}:
            parts.append([])
        else:
            parts[-1].append(word)
    return [tuple(part) for part in parts if part]


def _leads(term: Forms, words: Words) -> bool:
    """Tell whether a phrase is a term, or begins with it and continues without naming a thing ("fog over the lake")."""
    rest = words[len(term) :]
    if len(words) < len(term) or not all(forms & forms_of(word) for forms, word in zip(term, words, strict=False)):
        return False
    return not rest or rest[0] in terms.PREPOSITIONS or rest[0] in {"and", "or"} or builtin_reason(rest) is not None
