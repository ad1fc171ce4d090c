"""Draws noun phrases of image prompts, with the entities that they name.

An entity is a noun with its attributes as written, in lower case, without articles, determiners and counts. "X of Y"
without an article before Y is one entity ("bowl of oranges", "cup of coffee"); so is a statue or picture "of a lion".
Words of quantity are counts ("a flock of birds" gives "birds").
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from serve_app.embedded.parser.lexicon import Lexicon, with_article

_ADVERBS = ("very", "brightly", "slightly", "freshly", "beautifully")
_INSCRIPTIONS = (
    "that says", "saying", "with the text", "with the word", "titled", "reading", "that reads", "labeled", "called",
    "named", "with the words", "that spells", "marked", "with a caption that says", "which says", "displaying",
)  # fmt: skip
_ATTRIBUTE_WEIGHTS = {"attributes.colour": 3.0, "attributes.state": 3.0, "attributes.position": 0.7}
_HELD_OUT_PAIRS_OF_TEN = 1


class Split(Enum):
    """The set of nouns and attribute-noun pairs that a sampler may use; see `NounPhraseSampler`."""

    TRAIN = "train"
    HELD_OUT = "held_out"


@dataclass(frozen=True)
class NounPhrase:
    """A noun phrase of a prompt.

    Args:
        text: the words, in lower case, with article or count.
        entities: the entities that it names, in order of appearance; two for "a cat and dog".
        head: the noun of the first entity without attributes, for a later "the dog".
        plural: whether it needs a plural verb.
    """

    text: str
    entities: tuple[str, ...]
    head: str
    plural: bool = False


def is_held_out_pair(attribute: str, noun: str) -> bool:
    """Tell whether an attribute-noun pair is reserved for held-out prompts. A hash chooses one pair in ten."""
    return zlib.crc32(f"{attribute} {noun}".encode()) % 10 < _HELD_OUT_PAIRS_OF_TEN


class NounPhraseSampler:
    """Draws noun phrases.

    Args:
        lexicon: the words.
        rng: source of all random choices.
        split: TRAIN never uses a held-out noun or a held-out attribute-noun pair. HELD_OUT uses only held-out pairs,
            and takes about one noun in three from the held-out list.
        invented_share: share of nouns in TRAIN that are invented words, in [0, 1].
    """

    def __init__(self, lexicon: Lexicon, rng: random.Random, split: Split, invented_share: float = 0.27) -> None:
        self._lexicon = lexicon
        self._rng = rng
        self._split = split
        self._invented_share = invented_share
        attributes = [name for name in lexicon.sections if name.startswith("attributes.")]
        self._attribute_sections = [lexicon[name] for name in attributes]
        self._attribute_weights = [_ATTRIBUTE_WEIGHTS.get(name, 1.5) for name in attributes]
        self._single_words = [word for word in lexicon.countable_nouns if word.isalpha() and len(word) > 3]
        self._kinds: list[tuple[float, Callable[[], NounPhrase]]] = [
            (52, self._with_article),
            (14, self.with_the),
            (13, self.counted),
            (7, self._plural),
            (5, self._mass),
            (3, self._determined),
            (3, self._of_phrase),
            (5, self._coordinated),
            (1, self._representation),
            (1, self._made_of),
            (1, self._inscribed),
        ]

    def sample(self) -> NounPhrase:
        """Draw a noun phrase of any kind, mostly with an article or a count."""
        kind = self._rng.choices([make for _, make in self._kinds], [weight for weight, _ in self._kinds])[0]
        return kind()

    def bare(self) -> NounPhrase:
        """Draw a noun phrase without article or count, as in "cat on sofa, red car"."""
        if self._rng.random() < 0.25:
            return self._plural()
        if self._rng.random() < 0.12:
            return self._mass()
        noun = self.noun()
        entity = self.attributed(noun)
        return NounPhrase(entity, (entity,), noun)

    def worn_or_held(self) -> NounPhrase:
        """Draw a noun phrase for use after "her" or "a girl's": without an article."""
        return self._plural() if self._rng.random() < 0.25 else self._of_noun(self.noun(), lambda entity: entity)

    def invented_word(self) -> str:
        """Invent a word, from syllables or from the beginning and the end of two real words."""
        rng = self._rng
        if rng.random() < 0.5:
            first, second = rng.choice(self._single_words), rng.choice(self._single_words)
            word = first[: rng.randint(2, max(2, len(first) - 1))] + second[rng.randint(1, len(second) - 2) :]
        else:
            onsets, vowels = self._lexicon["syllables.onsets"], self._lexicon["syllables.vowels"]
            syllables = rng.choices([1, 2, 3, 4], [2, 5, 3, 1])[0]
            word = "".join(rng.choice(onsets) + rng.choice(vowels) for _ in range(syllables))
            end = rng.choice(self._lexicon["syllables.ends"]) if rng.random() < 0.85 else ""
            word = (rng.choice("aeiou") if rng.random() < 0.15 else "") + word + end
        return word if word not in self._lexicon["nouns.held_out"] else self.invented_word()

    def noun(self) -> str:
        """Draw a singular noun: listed, held out, invented, or a compound of two."""
        rng = self._rng
        # Held-out nouns are often compounds that start with a listed noun ("ice skates"), so training needs more
        # compounds that are not listed.
        if rng.random() < (0.09 if self._split is Split.TRAIN else 0.05):
            return f"{self._simple_noun()} {self._simple_noun()}"
        return self._simple_noun()

    def _simple_noun(self) -> str:
        draw = self._rng.random()
        if self._split is Split.HELD_OUT:
            if draw < 0.35:
                return self._rng.choice(self._lexicon["nouns.held_out"])
        elif draw < self._invented_share:
            word = self.invented_word()
            return f"{word}-{self.invented_word()}" if self._rng.random() < 0.04 else word
        if self._rng.random() < 0.2:
            return self._rng.choice(self._lexicon["nouns.common"])
        return self._rng.choice(self._lexicon.countable_nouns)

    def attribute(self, noun: str) -> str:
        """Draw an attribute for a noun; in rare cases an invented one."""
        rng = self._rng
        if self._split is Split.TRAIN and rng.random() < 0.06:
            return self.invented_word() + rng.choice(["", "", "y", "ed", "ish", "ing", "ian", "en", "-like"])
        if rng.random() < 0.02:
            return rng.choice(["{}-year-old", "{} year old", "{}-foot-tall"]).format(rng.randint(2, 99))
        while True:
            attribute = rng.choice(rng.choices(self._attribute_sections, self._attribute_weights)[0])
            if is_held_out_pair(attribute, noun) == (self._split is Split.HELD_OUT):
                return attribute

    def colour(self, noun: str) -> str:
        """Draw a colour for a noun."""
        colours = self._lexicon["attributes.colour"]
        allowed = [colour for colour in colours if is_held_out_pair(colour, noun) == (self._split is Split.HELD_OUT)]
        return self._rng.choice(allowed or colours)

    def attributed(self, noun: str) -> str:
        """Return a noun with zero to three attributes before it."""
        rng = self._rng
        count = rng.choices([0, 1, 2, 3], [48, 41, 10, 1])[0]
        attributes = list(dict.fromkeys(self.attribute(noun) for _ in range(count)))
        if not attributes:
            return noun
        joint = ", " if len(attributes) > 1 and rng.random() < 0.06 else " "
        if len(attributes) == 2 and rng.random() < 0.06:
            joint = " and "
        adverb = rng.choice(_ADVERBS) + " " if rng.random() < 0.02 else ""
        return f"{adverb}{joint.join(attributes)} {noun}"

    def _of_noun(self, noun: str, determine: Callable[[str], str], plural: bool = False) -> NounPhrase:
        entity = self.attributed(noun)
        return NounPhrase(determine(entity), (entity,), noun, plural)

    def _with_article(self) -> NounPhrase:
        return self._of_noun(self.noun(), with_article)

    def with_the(self) -> NounPhrase:
        """Draw a noun phrase with "the"."""
        if self._rng.random() < 0.25:
            phrase = self._plural()
            return NounPhrase(f"the {phrase.text}", phrase.entities, phrase.head, plural=True)
        return self._of_noun(self.noun(), lambda entity: f"the {entity}")

    def _plural_noun(self) -> str:
        if self._rng.random() < 0.2:
            return self._rng.choice(self._lexicon["nouns.plural"])
        return self._lexicon.plural(self.noun())

    def _plural(self) -> NounPhrase:
        return self._of_noun(self._plural_noun(), lambda entity: entity, plural=True)

    def counted(self) -> NounPhrase:
        """Draw a plural noun phrase with a count: "two red balls"."""
        count = self._rng.choice(self._lexicon["counts"])
        return self._of_noun(self._plural_noun(), lambda entity: f"{count} {entity}", plural=True)

    def _mass(self) -> NounPhrase:
        noun = self.invented_word() if self._rng.random() < 0.1 else self._rng.choice(self._lexicon["nouns.mass"])
        determiner = self._rng.choice(["", "", "", "some ", "the "])
        return self._of_noun(noun, lambda entity: determiner + entity)

    def _determined(self) -> NounPhrase:
        determiner = self._rng.choice(self._lexicon["determiners"])
        return self._of_noun(self.noun(), lambda entity: f"{determiner} {entity}")

    def _of_phrase(self) -> NounPhrase:
        container = self._rng.choice(self._lexicon["containers"])
        content = self._mass_or_plural_noun()
        if self._rng.random() < 0.2:
            content = f"{self.attribute(content)} {content}"
        entity = f"{self.attributed(container)} of {content}"
        return NounPhrase(with_article(entity), (entity,), container)

    def _mass_or_plural_noun(self) -> str:
        return self._rng.choice(self._lexicon["nouns.mass"]) if self._rng.random() < 0.4 else self._plural_noun()

    def _representation(self) -> NounPhrase:
        kind = self._rng.choice(self._lexicon["representations"])
        entity = f"{self.attributed(kind)} of {with_article(self.attributed(self.noun()))}"
        return NounPhrase(f"the {entity}", (entity,), kind)

    def _coordinated(self) -> NounPhrase:
        if self._rng.random() < 0.3:
            first, second = self._plural_noun(), self._plural_noun()
            attributed = self.attributed(first)
            return NounPhrase(f"{attributed} and {second}", (attributed, second), first, plural=True)
        first, second = self.noun(), self.noun()
        attributed = self.attributed(first)
        determined = self._rng.choice([with_article(attributed), f"the {attributed}", f"her {attributed}"])
        return NounPhrase(f"{determined} and {second}", (attributed, second), first, plural=True)

    def _made_of(self) -> NounPhrase:
        phrase = self._with_article()
        made = self._rng.choice(["made of", "made entirely of", "made out of", "carved from", "built from"])
        text = f"{phrase.text} {made} {self._rng.choice(self._lexicon['materials'])}"
        return NounPhrase(text, phrase.entities, phrase.head)

    def _inscribed(self) -> NounPhrase:
        rng = self._rng
        phrase = self._with_article()
        ideas = self._lexicon["noise_nouns"]
        words = " ".join(rng.choice([self.noun(), rng.choice(ideas)]) for _ in range(rng.randint(1, 2)))
        link = rng.choice(_INSCRIPTIONS)
        quote = rng.choice(['"', '"', "'"])
        return NounPhrase(f"{phrase.text} {link} {quote}{words}{quote}", phrase.entities, phrase.head)
