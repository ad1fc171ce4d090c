"""Image-generation prompts with the entities they name, drawn from a grammar.

Sentences, comma lists, telegraphic captions and requests, with lighting, mood, style, camera and quality words that are
no entities. Knows nothing of tokens and models. What counts as an entity: see `noun_phrases`; besides,
- named places ("in Paris"), times, weather and abstract ideas are none;
- a later "the dog" for a thing already named ("a brown dog") is no second entity;
- words in quotes, materials after "made of" and places in space ("the edge of", "in the background") are none.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from serve_app.embedded.lexicon import Lexicon, load_lexicon, present_participle, third_person
from serve_app.embedded.noun_phrases import NounPhrase, NounPhraseSampler, Split

_EXISTENCE = ("there is", "there are", "we see", "you can see", "stands", "is", "lies", "sits")
_ADDITIONS = ("there is", "there are", "add", "include", "also include", "please add", "it has", "show")


@dataclass(frozen=True)
class PromptSample:
    """A prompt and the answer expected for it.

    Args:
        prompt: the text, as a user would write it.
        entities: the distinct entities, lower-case, in order of appearance.
    """

    prompt: str
    entities: tuple[str, ...]


class _Draft:
    """A prompt under construction: its text so far, the entities named and their head nouns."""

    def __init__(self) -> None:
        self.text = ""
        self.entities: list[str] = []
        self.named: list[NounPhrase] = []

    def say(self, words: str) -> None:
        """Append words after a space; punctuation without."""
        glued = not self.text or words[:1] in {",", ".", ";", ":", "!", "?", "'"}
        self.text += words if glued else " " + words

    def name(self, phrase: NounPhrase, words: str | None = None) -> None:
        """Append a noun phrase, in its own words or in others, and take up its entities."""
        self.say(phrase.text if words is None else words)
        self.entities.extend(phrase.entities)
        self.named.append(phrase)


class PromptGrammar:
    """Draws prompts.

    Args:
        seed: of every choice; the same seed gives the same prompts.
        split: TRAIN or HELD_OUT; see `NounPhraseSampler`.
        lexicon: the words; those that ship with the package by default.
    """

    def __init__(self, seed: int, split: Split = Split.TRAIN, lexicon: Lexicon | None = None) -> None:
        self._lexicon = lexicon or load_lexicon()
        self._rng = random.Random(seed)
        self._split = split
        self._nouns = NounPhraseSampler(self._lexicon, self._rng, split)
        self._bare = False
        self._bodies: list[tuple[float, Callable[[_Draft], None]]] = [
            (40, self._chain),
            (22, self._clause),
            (14, self._caption),
            (10, self._list),
            (6, self._located),
            (6, self._tag_list),
            (1.5, self._abstract),
        ]

    def __iter__(self) -> Iterator[PromptSample]:
        """Draw without end."""
        while True:
            yield self.sample()

    def sample(self) -> PromptSample:
        """Draw one prompt."""
        rng = self._rng
        draft = _Draft()
        self._bare = False
        if rng.random() < 0.05:
            draft.say(", ".join(self._tags(rng.randint(1, 3))) + ",")
        body = rng.choices([make for _, make in self._bodies], [weight for weight, _ in self._bodies])[0]
        if rng.random() < 0.33 and body != self._located:
            draft.say(rng.choice(self._lexicon["frames"]))
        body(draft)
        sentences = rng.choices([0, 1, 2, 3, 5], [78, 14, 5, 2, 1])[0]
        if sentences or rng.random() < 0.3:
            draft.say(".")
        for _ in range(sentences):
            self._further_sentence(draft)
            draft.say(".")
        self._style(draft)
        text = self._cased(draft.text)
        if rng.random() < 0.06:
            text += " " + " ".join(rng.sample(self._lexicon["suffixes"], rng.randint(1, 2)))
        return PromptSample(text, tuple(dict.fromkeys(entity.lower() for entity in draft.entities)))

    # The parts of a sentence.

    def _noun_phrase(self) -> NounPhrase:
        return self._nouns.bare() if self._bare else self._nouns.sample()

    def _verb(self, known: bool = False) -> str:
        """Draw a verb; not a `known` one may be invented, as "-ing" tells it from a noun."""
        if not known and self._split is Split.TRAIN and self._rng.random() < 0.15:
            preposition = self._rng.choice(["", "", " " + self._preposition_only()])
            return self._nouns.invented_word() + preposition
        return self._rng.choice(self._lexicon["verbs"])

    def _preposition_only(self) -> str:
        return self._rng.choice(["on", "in", "at", "over", "under", "with", "through", "into", "behind", "around"])

    def _relation(self) -> str:
        """Draw the words between two noun phrases that form no full sentence."""
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

    def _object(self, draft: _Draft) -> None:
        """Append the noun phrase after a relation: at times the edge of one, someone's, or two with "and"."""
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
            draft.name(self._noun_phrase())
            draft.say("and")
            draft.name(self._noun_phrase())
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
            draft.name(self._noun_phrase())

    def _part(self) -> NounPhrase:
        """Draw what stands before "of the": "the roof", of a thing that is named next."""
        part = self._rng.choice(self._lexicon["part_nouns"])
        return NounPhrase(f"the {part}", (part,), part, plural=part.endswith("s"))

    def _aside(self, draft: _Draft) -> None:
        """Append words that name a thing not in the picture, or an idea: "shaped like a heart", "without cars"."""
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

    def _qualify(self, draft: _Draft) -> None:
        """Append what follows a clause and may name more: "with a hat", "that is wearing a coat", "at night"."""
        rng = self._rng
        draw = rng.random()
        if draw < 0.25:
            draft.say(self._relation())
            self._object(draft)
        elif draw < 0.4:
            draft.say(rng.choice(["with", "wearing", "holding", "carrying", "surrounded by", "dressed in", "in"]))
            self._series(draft, rng.randint(1, 3))
        elif draw < 0.5:
            pronoun = rng.choice(["that", "which", "who"])
            draft.say(f"{pronoun} {self._predicate(draft.named[-1]) if draft.named else 'is on'}")
            self._object(draft)
        elif draw < 0.54:
            pronoun = rng.choice(["that", "which", "who"])
            draft.say(f"{pronoun} is {rng.choice(self._lexicon['attributes.state'])}")
        elif draw < 0.58:
            draft.say(rng.choice(self._lexicon["verb_phrases"]))
        elif draw < 0.61:
            draft.say(rng.choice(self._lexicon["activities"]))
        elif draw < 0.635:
            self._aside(draft)
        elif draw < 0.66:
            draft.say("and " + present_participle(self._verb()))
            self._object(draft)
        elif draw < 0.69:
            draft.say(rng.choice(self._lexicon["manner"]) + " " + present_participle(self._verb()))
            self._object(draft)
        elif draw < 0.9:
            draft.say(rng.choice(self._lexicon["settings"]))
        elif draw < 0.95:
            draft.say("in " + rng.choice(self._lexicon["toponyms"]))
        else:
            joint = rng.choice(["while", "as", ", while", "and", ", and"])
            draft.say(joint)
            self._clause(draft)

    def _series(self, draft: _Draft, count: int) -> None:
        """Append `count` noun phrases as "a, b and c"."""
        oxford = self._rng.random() < 0.4
        for index in range(count):
            if index:
                last = index == count - 1
                draft.say((", and" if oxford and count > 2 else "and") if last else ",")
            draft.name(self._noun_phrase())

    # The bodies of a prompt.

    def _chain(self, draft: _Draft) -> None:
        """Noun phrases linked by prepositions and participles: "a dog sitting on a red sofa in a garden"."""
        draft.name(self._noun_phrase())
        for _ in range(self._rng.choices([0, 1, 2, 3, 4], [8, 38, 34, 15, 5])[0]):
            if self._rng.random() < 0.12:
                draft.say(",")
            draft.say(self._relation())
            self._object(draft)
        for _ in range(self._rng.choices([0, 1, 2], [60, 32, 8])[0]):
            self._qualify(draft)

    def _clause(self, draft: _Draft) -> None:
        """A full sentence: "two brown dogs are sleeping on a sofa"."""
        subject = self._noun_phrase()
        draft.name(subject)
        if self._rng.random() < 0.15:
            draft.say(self._relation())
            self._object(draft)
        draft.say(self._predicate(subject))
        self._object(draft)
        for _ in range(self._rng.choices([0, 1, 2], [50, 38, 12])[0]):
            self._qualify(draft)

    def _caption(self, draft: _Draft) -> None:
        """Telegraphic, without articles: "old man reading newspaper by window"."""
        self._bare = True
        self._chain(draft)
        self._bare = False

    def _list(self, draft: _Draft) -> None:
        """A list of things, at times in a place: "a cat, two dogs and a red ball on a carpet"."""
        self._bare = self._rng.random() < 0.2
        if self._rng.random() < 0.12:
            draft.name(self._noun_phrase())
            draft.say(self._rng.choice([":", ", with", ", including", ", featuring"]))
        self._series(draft, self._rng.randint(2, 6))
        if self._rng.random() < 0.4:
            draft.say(self._relation())
            self._object(draft)

    def _tag_list(self, draft: _Draft) -> None:
        """Comma tags, things and style mixed: "girl, red hair, forest, masterpiece, cherry tree"."""
        rng = self._rng
        for index in range(rng.randint(2, 7)):
            if index:
                draft.say(",")
            if index and rng.random() < 0.3:
                draft.say(self._tags(1)[0])
            else:
                draft.name(self._nouns.bare() if rng.random() < 0.85 else self._nouns.sample())

    def _located(self, draft: _Draft) -> None:
        """The place first: "on a wooden table, there is a bowl"."""
        if self._rng.random() < 0.6:
            draft.say(self._rng.choice(self._lexicon["prepositions"][:30]))
            self._object(draft)
        else:
            draft.say(self._rng.choice(self._lexicon["place_frames"]))
        draft.say(self._rng.choice([",", ",", "", ";"]))
        if self._rng.random() < 0.5:
            draft.say(self._rng.choice(_EXISTENCE))
            self._series(draft, self._rng.choice([1, 1, 2, 3]))
        else:
            self._clause(draft)

    def _abstract(self, draft: _Draft) -> None:
        """A prompt that names nothing to outline."""
        draft.say(" and ".join(self._rng.sample(self._lexicon["noise_nouns"], self._rng.randint(1, 2))))

    def _further_sentence(self, draft: _Draft) -> None:
        """A second or later sentence, often about a thing already named."""
        rng = self._rng
        draw = rng.random()
        if draw < 0.35 and draft.named:
            self._about_named(draft)
        elif draw < 0.5:
            self._clause(draft)
        elif draw < 0.6:
            draft.say(rng.choice(_ADDITIONS))
            self._series(draft, rng.choice([1, 1, 2, 3]))
            if rng.random() < 0.4:
                draft.say(rng.choice(self._lexicon["place_frames"]))
        elif draw < 0.8:
            self._located(draft)
        else:
            draft.say(rng.choice(self._lexicon["scene_sentences"]))

    def _about_named(self, draft: _Draft) -> None:
        """A sentence whose subject was named before: "the dog is wearing a red hat"; it is no new entity."""
        rng = self._rng
        known = rng.choice(draft.named)
        pronoun = rng.choice(["they", "they both"] if known.plural else ["he", "she", "it"])
        subject = rng.choice([f"the {known.head}", f"the {known.entities[0]}", f"the {known.head}", pronoun])
        if rng.random() < 0.2:
            draft.say(f"{rng.choice(['next to', 'behind', 'in front of', 'near', 'above'])} the {known.head},")
            self._clause(draft)
            return
        draft.say(subject)
        if rng.random() < 0.15:
            be = "are" if known.plural else "is"
            draft.say(f"{be} {rng.choice(self._lexicon['attributes.state'] + self._lexicon['attributes.colour'])}")
            return
        draft.say(self._predicate(known) if rng.random() < 0.7 else ("have" if known.plural else "has"))
        self._object(draft)
        if rng.random() < 0.25:
            self._qualify(draft)

    # What is around the sentences.

    def _tags(self, count: int) -> list[str]:
        """Draw style tags; rarely weighted in brackets, or an artist no one has heard of."""
        rng = self._rng
        tags = rng.sample(self._lexicon.group("tags"), count)
        for index, tag in enumerate(tags):
            if rng.random() < 0.03:
                tags[index] = rng.choice([f"({tag}:1.2)", f"(({tag}))", f"[{tag}]", f"{tag}:1.4"])
            elif self._split is Split.TRAIN and rng.random() < 0.06:
                name, second = self._nouns.invented_word(), self._nouns.invented_word()
                invented = [f"by {name} {second}", f"{name} style", f"in the style of {name}", f"{name} aesthetic"]
                tags[index] = rng.choice(invented)
        return tags

    def _style(self, draft: _Draft) -> None:
        """Append style words after the sentences."""
        rng = self._rng
        count = rng.choices([0, 1, 2, 3, 4, 6, 9], [46, 16, 14, 10, 7, 5, 2])[0]
        if not count:
            return
        separator = rng.choices([", ", ". ", " ", " | ", " - ", "; "], [70, 12, 6, 4, 4, 4])[0]
        if not draft.text.endswith("."):
            draft.text += separator if separator != ". " else ". "
        else:
            draft.text += " "
        tags = self._tags(count)
        adverbial = tags[0].startswith(("in ", "by ", "from ", "shot "))
        preposition = "with " if rng.random() < 0.06 and not adverbial else ""
        joint = " and " if count == 2 and rng.random() < 0.2 else (separator if separator in {" | ", "; "} else ", ")
        draft.text += preposition + joint.join(tags) + rng.choice(["", "", "."])

    def _cased(self, text: str) -> str:
        """Give the prompt a user's capitals and spaces."""
        draw = self._rng.random()
        text = " ".join(text.split())
        if draw < 0.68:
            sentences = text.split(". ")
            text = ". ".join(sentence[:1].upper() + sentence[1:] for sentence in sentences)
        elif draw < 0.73:
            text = text.title().replace("'S", "'s")
        elif draw < 0.75:
            text = text.upper()
        return text
