"""Reads the words of the prompt grammar from `words.txt`, and forms plurals and verb forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources

from serve_app.embedded.plurals import VOWELS, plural, with_s

_DOUBLED = frozenset(
    {"sit", "run", "swim", "cut", "hug", "pet", "grab", "drag", "dig", "put", "hit", "nap", "spin", "unwrap"}
)


@dataclass(frozen=True)
class Lexicon:
    """The sections of a word file.

    Args:
        sections: the entries of each section, by its name, in file order. An entry that occurs several times is drawn
            more often.
    """

    sections: Mapping[str, tuple[str, ...]]

    def __getitem__(self, section: str) -> tuple[str, ...]:
        """Return the entries of one section, in file order.

        Raises:
            KeyError: there is no such section.
        """
        return self.sections[section]

    def group(self, prefix: str) -> tuple[str, ...]:
        """Return the entries of all sections whose names start with `prefix.`, in file order."""
        return tuple(word for name, words in self.sections.items() if name.startswith(prefix + ".") for word in words)

    @cached_property
    def countable_nouns(self) -> tuple[str, ...]:
        """Singular nouns with an article and a plural, except those that are held out."""
        uncountable = {"nouns.mass", "nouns.plural", "nouns.held_out"}
        names = [name for name in self.sections if name.startswith("nouns.") and name not in uncountable]
        return tuple(dict.fromkeys(word for name in names for word in self.sections[name]))

    @cached_property
    def training_nouns(self) -> frozenset[str]:
        """All nouns of training prompts, as they are listed."""
        return frozenset((*self.countable_nouns, *self["nouns.mass"], *self["nouns.plural"]))

    @cached_property
    def training_noun_words(self) -> frozenset[str]:
        """All single words of training nouns and of their plurals: "coffee table" gives coffee, table and tables."""
        forms = [*self.training_nouns, *(self.plural(noun) for noun in self.countable_nouns)]
        return frozenset(word for form in forms for word in form.split())

    @cached_property
    def _irregular_plurals(self) -> Mapping[str, str]:
        pairs = (entry.partition(" > ") for entry in self["plurals"])
        return {singular: plural for singular, _, plural in pairs}

    def plural(self, noun: str) -> str:
        """Return the plural of a singular noun. In a compound, the last word changes.

        >>> load_lexicon().plural("bus stop"), load_lexicon().plural("cherry"), load_lexicon().plural("snowman")
        ('bus stops', 'cherries', 'snowmen')
        """
        return plural(noun, self._irregular_plurals)


def with_article(phrase: str) -> str:
    """Put "a" or "an" before a phrase, according to its beginning.

    >>> with_article("old car"), with_article("unicorn"), with_article("dog")
    ('an old car', 'a unicorn', 'a dog')
    """
    vowel = phrase[0] in VOWELS + "é" and not phrase.startswith(("uni", "use", "euro", "one", "ufo"))
    return ("an " if vowel else "a ") + phrase


def present_participle(verb: str) -> str:
    """Return the "-ing" form of a verb phrase. Its first word is the verb.

    >>> present_participle("sit on"), present_participle("ride"), present_participle("lie under")
    ('sitting on', 'riding', 'lying under')
    """
    base, *rest = verb.split(" ")
    if base in _DOUBLED:
        form = base + base[-1] + "ing"
    elif base.endswith("ie"):
        form = base[:-2] + "ying"
    elif base.endswith("e") and not base.endswith(("ee", "oe", "ye")):
        form = base[:-1] + "ing"
    else:
        form = base + "ing"
    return " ".join((form, *rest))


def third_person(verb: str) -> str:
    """Return the third person singular of a verb phrase. Its first word is the verb.

    >>> third_person("sit on"), third_person("carry"), third_person("watch over")
    ('sits on', 'carries', 'watches over')
    """
    base, *rest = verb.split(" ")
    return " ".join((with_s(base), *rest))


def parse_lexicon(text: str) -> Lexicon:
    """Parse a word file.

    Args:
        text: lines with `[section]` headings or comma-separated entries; a line that starts with "#" is a comment.

    Returns:
        The lexicon. Headings with the same name are one section.

    Raises:
        ValueError: there are words before the first heading.
    """
    sections: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in (line.strip() for line in text.splitlines()):
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            current = sections.setdefault(line[1:-1], [])
        elif current is None:
            raise ValueError(f"words before the first [section]: {line!r}")
        else:
            current.extend(word.strip() for word in line.split(",") if word.strip())
    return Lexicon({name: tuple(words) for name, words in sections.items()})


def load_lexicon() -> Lexicon:
    """Read the word file of the package."""
    return parse_lexicon(resources.files(__package__).joinpath("words.txt").read_text(encoding="utf-8"))
