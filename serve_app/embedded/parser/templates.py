"""Draws prompts from sentence templates: long captions, edit instructions, image references and exclusions.

The templates are in `templates.txt`. The name of a slot decides whether its words become an entity:
- Things that must not be in the picture do not: X in "no X", "without X", "remove X", "replace X with Y".
- A new colour becomes an attribute of the thing: "change the car to red" has the entity "red car".
- Words for an image of the request do not: "image 1" in "the dog from image 1".
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources

from serve_app.embedded.parser.lexicon import Lexicon, present_participle
from serve_app.embedded.parser.noun_phrases import NounPhrase, NounPhraseSampler
from serve_app.embedded.parser.sentences import Draft, SentenceSampler

_SLOT = re.compile(r"\{(\w+)\}")
_NUMBER_WORDS = ("one", "two", "three", "four")


@cache
def load_templates() -> Mapping[str, tuple[str, ...]]:
    """Read the templates of the package, by section."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in resources.files(__package__).joinpath("templates.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            # The name of a section is a line of its own. A template may also start with a bracket.
            name, _, rest = line[1:].partition("]")
            if not rest:
                current = sections.setdefault(name, [])
                continue
        if line.strip() and not line.startswith("#"):
            current.append(line.strip())
    return {name: tuple(templates) for name, templates in sections.items()}


class TemplateSampler:
    """Appends filled templates to drafts.

    Args:
        lexicon: the words.
        rng: source of all random choices.
        nouns: draws the noun phrases.
        sentences: draws the clauses.
    """

    def __init__(
        self, lexicon: Lexicon, rng: random.Random, nouns: NounPhraseSampler, sentences: SentenceSampler
    ) -> None:
        self._lexicon = lexicon
        self._rng = rng
        self._nouns = nouns
        self._sentences = sentences
        self._changed = self._old_colour = ""
        self._slots: Mapping[str, Callable[[Draft], None]] = self._named_slots() | self._silent_slots()

    def _named_slots(self) -> dict[str, Callable[[Draft], None]]:
        """Return the slots whose words are entities, by name."""
        rng, nouns, sentences = self._rng, self._nouns, self._sentences
        return {
            "thing": lambda draft: draft.name(nouns.sample()),
            "the": lambda draft: draft.name(nouns.with_the()),
            "bare": lambda draft: draft.name(nouns.bare()),
            "part": lambda draft: draft.name(nouns.worn_or_held()),
            "counted": lambda draft: draft.name(nouns.counted()),
            "list": lambda draft: sentences.series(draft, rng.choices([2, 3, 4, 5], [5, 4, 2, 1])[0]),
            "clause": sentences.clause,
            "chain": sentences.chain,
            "located": sentences.located,
            "about": sentences.further_sentence,
            "changed": self._say_changed,
            "colour": self._name_recoloured,
        }

    def _silent_slots(self) -> dict[str, Callable[[Draft], None]]:
        """Return the slots whose words are not entities, by name."""
        rng, nouns, lexicon = self._rng, self._nouns, self._lexicon
        words = {
            "on": "prepositions",
            "verb": "verbs",
            "verb_phrase": "verb_phrases",
            "setting": "settings",
            "idea": "noise_nouns",
            "material": "materials",
            "toponym": "toponyms",
            "state": "attributes.state",
            "abstract": "abstract",
            "hue": "attributes.colour",
        }
        return {slot: self._any_of(section) for slot, section in words.items()} | {
            "doing": lambda draft: draft.say(present_participle(rng.choice(lexicon["verbs"]))),
            "tag": lambda draft: draft.say(rng.choice(lexicon.group("tags"))),
            "adj": lambda draft: draft.say(self._adjective()),
            "known": self._say_known,
            "image": lambda draft: draft.say(self.image()),
            "quoted": lambda draft: draft.say(f'"{self.quoted()}"'),
            "absent": lambda draft: draft.say(nouns.sample().text),
            "absent_the": lambda draft: draft.say(nouns.with_the().text),
            "absent_bare": lambda draft: draft.say(nouns.bare().text),
            "absent_part": lambda draft: draft.say(nouns.worn_or_held().text),
            "absent_colour": lambda draft: draft.say(self._old_colour or rng.choice(lexicon["attributes.colour"])),
        }

    def _any_of(self, section: str) -> Callable[[Draft], None]:
        return lambda draft: draft.say(self._rng.choice(self._lexicon[section]))

    def fill(self, draft: Draft, section: str) -> None:
        """Append a random template of a section, with its slots filled."""
        words, *rest = _SLOT.split(self._rng.choice(load_templates()[section]))
        draft.say(words.strip())
        for slot, after in zip(rest[::2], rest[1::2], strict=True):
            self._slots[slot](draft)
            draft.say(after.strip())

    def image(self) -> str:
        """Draw words for an image of the request: "image 1", "the second reference", "<image2>"."""
        rng = self._rng
        name, number = rng.choice(self._lexicon["images"]), rng.randint(1, rng.choice([2, 4, 16]))
        ordinal = rng.choice(self._lexicon["ordinals"])
        forms = [
            (40, f"{name} {number}"),
            (18, f"the {ordinal} {name}"),
            (6, f"the {rng.choice(self._lexicon['images.given'])} {name}"),
            (4, f"{name} #{number}"),
            (3, f"{name} number {number}"),
            (4, f"{name} {rng.choice(_NUMBER_WORDS)}"),
            (3, f"{name}{number}"),
            (2, f"{name}_{number}"),
            (3, f"<image{number}>"),
            (3, f"@image{number}"),
            (2, f"the {name}"),
            (2, f"{rng.choice(['both', 'all', 'my'])} {name}s"),
        ]
        return rng.choices([words for _, words in forms], [weight for weight, _ in forms])[0]

    def quoted(self) -> str:
        """Draw the words of an inscription."""
        rng = self._rng
        words = [rng.choice([self._nouns.noun(), rng.choice(self._lexicon["noise_nouns"])]) for _ in range(3)]
        return " ".join(words[: rng.randint(1, 3)])

    def _adjective(self) -> str:
        """Draw an adjective that captions use for light and mood; sometimes an invented one."""
        rng = self._rng
        if rng.random() < 0.1:
            return self._nouns.invented_word() + rng.choice(["", "y", "ic", "al", "ing", "ed", "ous", "ive"])
        sections = ("attributes.state", "attributes.written", "moods", "moods")
        return rng.choice(self._lexicon[rng.choice(sections)])

    def _say_known(self, draft: Draft) -> None:
        """Name a thing of the draft once more; name a new one if there is none yet."""
        if not draft.named:
            draft.name(self._nouns.with_the())
            return
        known = self._rng.choice(draft.named[-6:])
        pronoun = "they" if known.plural else self._rng.choice(["he", "she", "it"])
        again = [f"the {known.head}", f"the {known.head}", f"the {known.entities[0]}", pronoun]
        draft.say(self._rng.choice(again))

    def _say_changed(self, draft: Draft) -> None:
        """Name a thing whose colour changes. Its old colour, if the prompt names it, is not part of the entity."""
        rng = self._rng
        noun = self._nouns.noun()
        attribute = self._nouns.attribute(noun) if rng.random() < 0.25 else ""
        self._old_colour = attribute if attribute in self._lexicon["attributes.colour"] else ""
        kept = attribute if attribute and not self._old_colour else ""
        self._changed = f"{kept} {noun}".strip()
        owner = rng.choice(["the", "the", "the", "his", "her", "its"])
        draft.say(f"{owner} {attribute} {noun}" if attribute else f"{owner} {noun}")

    def _name_recoloured(self, draft: Draft) -> None:
        colour = self._nouns.colour(self._changed)
        if self._changed:
            entity = f"{colour} {self._changed}"
            draft.name(NounPhrase(colour, (entity,), self._changed))
            self._changed = self._old_colour = ""
        else:
            draft.say(colour)
