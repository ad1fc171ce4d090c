"""Draws sentences about things from word lists: clauses, chains of phrases, lists, and additions to them.

A draft collects the words and the entities that they name. The style words, and the request around the sentences, come
from `grammar`.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from serve_app.embedded.parser.lexicon import Lexicon, present_participle, third_person
from serve_app.embedded.parser.noun_phrases import NounPhrase, NounPhraseSampler, Split

_EXISTENCE = ("there is", "there are", "we see", "you can see", "stands", "is", "lies", "sits")
_ADDITIONS = ("there is", "there are", "add", "include", "also include", "please add", "it has", "show")


class Draft:
    """A prompt that is being written: its text so far, its entities, and the noun phrases that name them."""

    def __init__(self) -> None:
        self.text = ""
        self.entities: list[str] = []
        self.named: list[NounPhrase] = []

    def say(self, words: str) -> None:
        """Append words after a space, or punctuation without a space."""
        glued = self.text[-1:] in {"", "(", "["} or words[:1] in {"", ",", ".", ";", ":", "!", "?", "'", ")", "]"}
        self.text += words if glued else " " + words

    def name(self, phrase: NounPhrase, words: str | None = None) -> None:
        """Append a noun phrase, in its own words or in `words`, and add its entities."""
        self.say(phrase.text if words is None else words)
        self.entities.extend(phrase.entities)
        self.named.append(phrase)


class SentenceSampler:
    """Draws sentences into a draft.

    Args:
        lexicon: the words.
        rng: source of all random choices.
        split: TRAIN sometimes invents verbs; HELD_OUT uses only listed ones.
        nouns: draws the noun phrases.
    """

    def __init__(self, lexicon: Lexicon, rng: random.Random, split: Split, nouns: NounPhraseSampler) -> None:
        self._lexicon = lexicon
        self._rng = rng
        self._split = split
        self._nouns = nouns
        self.bare = False
        """Whether noun phrases have no articles and counts, as in captions."""
        self._qualifiers: tuple[tuple[float, Callable[[Draft], None]], ...] = (
            (0.25, self._related),
            (0.4, self._equipped),
            (0.5, self._relative_clause),
            (0.54, self._state),
            (0.58, lambda draft: draft.say(rng.choice(lexicon["verb_phrases"]))),
            (0.61, lambda draft: draft.say(rng.choice(lexicon["activities"]))),
            (0.635, self._aside),
            (0.66, lambda draft: self._doing(draft, "and")),
            (0.69, lambda draft: self._doing(draft, rng.choice(lexicon["manner"]))),
            (0.9, lambda draft: draft.say(rng.choice(lexicon["settings"]))),
            (0.95, lambda draft: draft.say("in " + rng.choice(lexicon["toponyms"]))),
            (1.0, self._subclause),
        )
        """Additions to a clause. A number drawn from [0, 1) chooses the first one with a larger bound."""

    def noun_phrase(self) -> NounPhrase:
        """Draw a noun phrase; without article or count if `bare` is set."""
        return self._nouns.bare() if self.bare else self._nouns.sample()

    def _verb(self, known: bool = False) -> str:
        """Draw a verb. If `known` is false, it may be invented: use it in a form that shows a verb, such as "-ing"."""
        if not known and self._split is Split.TRAIN and self._rng.random() < 0.15:
            preposition = self._rng.choice(["", "", " " + self._preposition_only()])
            return self._nouns.invented_word() + preposition
        return self._rng.choice(self._lexicon["verbs"])

    def _preposition_only(self) -> str:
        return self._rng.choice(["on", "in", "at", "over", "under", "with", "through", "into", "behind", "around"])

    def relation(self) -> str:
        """Draw the words that link two noun phrases without a finite verb."""
        draw = self._rng.random()
        if draw < 0.5:
            return self._rng.choice(self._lexicon["prepositions"])
        if draw < 0.85:
            return present_participle(self._verb())
        return self._participle()

    def _participle(self) -> str:
        if self._split is Split.TRAIN and self._rng.random() < 0.12:
            return f"{self._nouns.invented_word()}ed {self._rng.choice(['by', 'in', 'with', 'on', 'to'])}"
        return self._rng.choice(self._lexicon["participles"])

    def _predicate(self, subject: NounPhrase) -> str:
        """Draw a finite verb between a subject and an object: "sits on", "are chasing", "is covered in"."""
        draw = self._rng.random()
        be = self._rng.choice(["are", "were"] if subject.plural else ["is", "is", "was"])
        if draw < 0.4:
            verb = self._verb(known=True)
            return verb if subject.plural else third_person(verb)
        if draw < 0.8:
            return f"{be} {present_participle(self._verb())}"
        if draw < 0.9:
            return f"{be} {self._participle()}"
        return f"{be} {self._rng.choice(self._lexicon['prepositions'][:24])}"

    def object(self, draft: Draft) -> None:
        """Append the noun phrase after a relation. It may be a part of a thing, a possession, or two with "and"."""
        rng = self._rng
        draw = rng.random()
        if draw < 0.05:
            phrase = self._nouns.worn_or_held()
            draft.name(phrase, f"{rng.choice(self._lexicon['parts_of'])} {rng.choice(['the', 'a'])} {phrase.text}")
        elif draw < 0.08 and draft.named:
            draft.say(rng.choice(["each other", "one another", "it", "them", "him", "her"]))
        elif draw < 0.13 and draft.named:
            phrase = self._nouns.worn_or_held()
            draft.name(phrase, f"{rng.choice(['his', 'her', 'its', 'their'])} {phrase.text}")
        elif draw < 0.2:
            draft.name(self.noun_phrase())
            draft.say("and")
            draft.name(self.noun_phrase())
        elif draw < 0.22:
            draft.name(self._part())
            draft.say("of")
            phrase = self._nouns.worn_or_held()
            draft.name(phrase, f"{rng.choice(['the', 'the', 'a', 'his', 'her'])} {phrase.text}")
        elif draw < 0.25:
            owner, owned = self._nouns.bare(), self._nouns.worn_or_held()
            draft.name(owner, f"the {owner.text}")
            draft.say("'" if owner.text.endswith("s") else "'s")
            draft.name(owned)
        else:
            draft.name(self.noun_phrase())

    def _part(self) -> NounPhrase:
        """Draw a part of a thing that is named next: "the roof" in "the roof of the house"."""
        part = self._rng.choice(self._lexicon["part_nouns"])
        return NounPhrase(f"the {part}", (part,), part, plural=part.endswith("s"))

    def _aside(self, draft: Draft) -> None:
        """Append words for a thing that is not in the picture, or an idea: "shaped like a heart", "without cars"."""
        rng = self._rng
        kind = rng.random()
        if kind < 0.4:
            like = rng.choice(["shaped like", "in the shape of", "that looks like", "looking like", "resembling"])
            draft.say(f"{like} {self._nouns.sample().text}")
        elif kind < 0.65:
            draft.say(f"{rng.choice(['without', 'without any', 'with no', 'but no'])} {self._nouns.bare().text}")
        else:
            link = rng.choice(["symbolizing", "full of", "evoking", "representing", "with a sense of", "a feeling of"])
            draft.say(f"{link} {rng.choice(self._lexicon['noise_nouns'])}")

    def _qualify(self, draft: Draft) -> None:
        """Append an addition to a clause: "with a hat", "that is wearing a coat", "at night"."""
        draw = self._rng.random()
        next(add for bound, add in self._qualifiers if draw < bound)(draft)

    def _related(self, draft: Draft) -> None:
        draft.say(self.relation())
        self.object(draft)

    def _equipped(self, draft: Draft) -> None:
        rng = self._rng
        draft.say(rng.choice(["with", "wearing", "holding", "carrying", "surrounded by", "dressed in", "in"]))
        self.series(draft, rng.randint(1, 3))

    def _relative_clause(self, draft: Draft) -> None:
        pronoun = self._rng.choice(["that", "which", "who"])
        draft.say(f"{pronoun} {self._predicate(draft.named[-1]) if draft.named else 'is on'}")
        self.object(draft)

    def _state(self, draft: Draft) -> None:
        pronoun = self._rng.choice(["that", "which", "who"])
        draft.say(f"{pronoun} is {self._rng.choice(self._lexicon['attributes.state'])}")

    def _doing(self, draft: Draft, before: str) -> None:
        draft.say(f"{before} {present_participle(self._verb())}")
        self.object(draft)

    def _subclause(self, draft: Draft) -> None:
        draft.say(self._rng.choice(["while", "as", ", while", "and", ", and"]))
        self.clause(draft)

    def series(self, draft: Draft, count: int) -> None:
        """Append `count` noun phrases as "a, b and c"."""
        oxford = self._rng.random() < 0.4
        for index in range(count):
            if index:
                last = index == count - 1
                draft.say((", and" if oxford and count > 2 else "and") if last else ",")
            draft.name(self.noun_phrase())

    def chain(self, draft: Draft) -> None:
        """Append noun phrases with prepositions and participles between: "a dog sitting on a red sofa in a garden"."""
        draft.name(self.noun_phrase())
        for _ in range(self._rng.choices([0, 1, 2, 3, 4], [10, 42, 33, 12, 3])[0]):
            if self._rng.random() < 0.12:
                draft.say(",")
            draft.say(self.relation())
            self.object(draft)
        for _ in range(self._rng.choices([0, 1, 2], [60, 32, 8])[0]):
            self._qualify(draft)

    def clause(self, draft: Draft) -> None:
        """Append a full sentence: "two brown dogs are sleeping on a sofa"."""
        subject = self.noun_phrase()
        draft.name(subject)
        if self._rng.random() < 0.15:
            draft.say(self.relation())
            self.object(draft)
        draft.say(self._predicate(subject))
        self.object(draft)
        for _ in range(self._rng.choices([0, 1, 2], [50, 38, 12])[0]):
            self._qualify(draft)

    def located(self, draft: Draft) -> None:
        """Append a sentence that starts with a place: "on a wooden table, there is a bowl"."""
        if self._rng.random() < 0.6:
            draft.say(self._rng.choice(self._lexicon["prepositions"][:30]))
            self.object(draft)
        else:
            draft.say(self._rng.choice(self._lexicon["place_frames"]))
        draft.say(self._rng.choice([",", ",", "", ";"]))
        if self._rng.random() < 0.5:
            draft.say(self._rng.choice(_EXISTENCE))
            self.series(draft, self._rng.choice([1, 1, 2, 3]))
        else:
            self.clause(draft)

    def further_sentence(self, draft: Draft) -> None:
        """Append a second or later sentence, often about a thing that is already named."""
        rng = self._rng
        draw = rng.random()
        if draw < 0.35 and draft.named:
            self._about_named(draft)
        elif draw < 0.5:
            self.clause(draft)
        elif draw < 0.6:
            draft.say(rng.choice(_ADDITIONS))
            self.series(draft, rng.choice([1, 1, 2, 3]))
            if rng.random() < 0.4:
                draft.say(rng.choice(self._lexicon["place_frames"]))
        elif draw < 0.8:
            self.located(draft)
        else:
            draft.say(rng.choice(self._lexicon["scene_sentences"]))

    def _about_named(self, draft: Draft) -> None:
        """Append a sentence about a named thing: "the dog is wearing a red hat". The dog is not a new entity."""
        rng = self._rng
        known = rng.choice(draft.named)
        pronoun = rng.choice(["they", "they both"] if known.plural else ["he", "she", "it"])
        subject = rng.choice([f"the {known.head}", f"the {known.entities[0]}", f"the {known.head}", pronoun])
        if rng.random() < 0.2:
            draft.say(f"{rng.choice(['next to', 'behind', 'in front of', 'near', 'above'])} the {known.head},")
            self.clause(draft)
            return
        draft.say(subject)
        if rng.random() < 0.15:
            be = "are" if known.plural else "is"
            draft.say(f"{be} {rng.choice(self._lexicon['attributes.state'] + self._lexicon['attributes.colour'])}")
            return
        draft.say(self._predicate(known) if rng.random() < 0.7 else ("have" if known.plural else "has"))
        self.object(draft)
        if rng.random() < 0.25:
            self._qualify(draft)
