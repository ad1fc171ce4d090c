"""Draws image-generation prompts, with the entities that they name, from a grammar.

Prompts are sentences, comma lists, captions without articles, requests, long captions and edit instructions, sometimes
with words in quotes. `noun_phrases` and `templates` say what counts as an entity. In addition:
- Words for lighting, mood, style, camera and quality are not entities.
- Named places ("in Paris"), times, weather and abstract ideas are not entities.
- A later "the dog" for a thing that is already named ("a brown dog") is not a second entity.
- Quoted words after a verb of writing (a sign that says "open") are not entities. Quotation marks around an entity are
  not part of the answer.
- Materials after "made of", and positions ("the edge of", "in the background"), are not entities.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from serve_app.embedded.parser.lexicon import Lexicon, load_lexicon
from serve_app.embedded.parser.noun_phrases import NounPhrase, NounPhraseSampler, Split
from serve_app.embedded.parser.sentences import Draft, SentenceSampler
from serve_app.embedded.parser.spelling import respell
from serve_app.embedded.parser.templates import TemplateSampler

_QUOTED = 0.06
"""Share of samples with added quotation marks."""
_QUOTES = (('"', '"'), ('"', '"'), ("'", "'"), ("\u201c", "\u201d"))


@dataclass(frozen=True)
class PromptSample:
    """A prompt and its right answer.

    Args:
        prompt: the text, as a user would write it.
        entities: the distinct entities, in lower case, in order of appearance; may be empty.
    """

    prompt: str
    entities: tuple[str, ...]


class PromptGrammar:
    """Draws prompts.

    Args:
        seed: seed of all random choices; the same seed gives the same prompts.
        split: TRAIN or HELD_OUT; see `NounPhraseSampler`.
        lexicon: the words; None means those of the package.
    """

    def __init__(self, seed: int, split: Split = Split.TRAIN, lexicon: Lexicon | None = None) -> None:
        self._lexicon = lexicon or load_lexicon()
        self._rng = random.Random(seed)
        self._split = split
        self._nouns = NounPhraseSampler(self._lexicon, self._rng, split)
        self._sentences = SentenceSampler(self._lexicon, self._rng, split, self._nouns)
        self._templates = TemplateSampler(self._lexicon, self._rng, self._nouns, self._sentences)
        framed: list[tuple[float, Callable[[Draft], None]]] = [
            (28, self._sentences.chain),
            (16, self._sentences.clause),
            (10, self._caption),
            (9, self._list),
            (5, self._tag_list),
            (1.5, self._abstract),
        ]
        self._framed = {make for _, make in framed}
        self._bodies = [
            *framed,
            (4, self._sentences.located),
            (8, lambda draft: self._instructions(draft, "edits")),
            (6, lambda draft: self._instructions(draft, "references")),
            (4, lambda draft: self._templates.fill(draft, "exclusions")),
            (16, self._long_caption),
        ]

    def __iter__(self) -> Iterator[PromptSample]:
        """Yield prompts without end."""
        while True:
            yield self.sample()

    def sample(self) -> PromptSample:
        """Draw one prompt."""
        rng = self._rng
        draft = Draft()
        self._sentences.bare = False
        body = rng.choices([make for _, make in self._bodies], [weight for weight, _ in self._bodies])[0]
        if body in self._framed:
            if rng.random() < 0.06:
                draft.say(", ".join(self._tags(rng.randint(1, 3))) + ",")
            if rng.random() < 0.38:
                draft.say(rng.choice(self._lexicon["frames"]))
        body(draft)
        sentences = rng.choices([0, 1, 2, 3, 5], [80, 14, 4, 1.5, 0.5])[0]
        if sentences or rng.random() < 0.3:
            draft.say(".")
        for _ in range(sentences):
            self._sentences.further_sentence(draft)
            draft.say(".")
        if rng.random() < 0.05:
            draft.say("." if draft.text[-1:] != "." else "")
            self._templates.fill(draft, "caption.noise")
        self._style(draft)
        text, entities = respell(" ".join(draft.text.split()), draft.entities, rng)
        text = self._cased(self._quoted(text, entities))
        if rng.random() < 0.06:
            text += " " + " ".join(rng.sample(self._lexicon["suffixes"], rng.randint(1, 2)))
        return PromptSample(text, tuple(dict.fromkeys(entity.lower() for entity in entities)))

    def _quoted(self, text: str, entities: list[str]) -> str:
        """Put the whole prompt or some words of an entity in quotation marks, which the answer does not have."""
        rng = self._rng
        draw = rng.random()
        if draw > _QUOTED or '"' in text:
            return text
        opening, closing = rng.choice(_QUOTES)
        if draw < _QUOTED / 3 or not entities:
            return f"{opening}{text}{closing}"
        words = rng.choice(entities)
        if rng.random() < 0.5:
            words = rng.choice(words.split(" "))
        pattern = rf"(?<![\w-]){re.escape(words)}(?![\w-])"
        return re.sub(pattern, lambda match: f"{opening}{match.group()}{closing}", text, count=1)

    def _instructions(self, draft: Draft, section: str) -> None:
        """Append one to eight instructions, such as "put a hat on the dog, then remove the car"."""
        rng = self._rng
        count = rng.choices([1, 2, 3, 4, 6, 8], [62, 20, 8, 4, 4, 2])[0]
        sections = (section, section, section, "edits", "caption.sentences", "caption.exclusions")
        for index in range(count):
            if index:
                draft.say(rng.choice([".", ".", ".", ", and", ", then", " and", ";"]))
            elif rng.random() < 0.12:
                draft.say(rng.choice(["please", "can you", "could you please", "i want you to", "now", "1."]))
            self._templates.fill(draft, rng.choice(sections) if index else section)

    def _long_caption(self, draft: Draft) -> None:
        """Append many sentences about one scene, up to about 20 entities and 120 words."""
        rng = self._rng
        words, things = rng.randint(35, 125), rng.randint(5, 21)
        noise = rng.choice([0.05, 0.15, 0.3])
        self._templates.fill(draft, "caption.openings")
        while len(draft.text.split()) < words and len(draft.entities) < things:
            draft.say(rng.choices([".", ",", ";"], [90, 8, 2])[0])
            self._templates.fill(draft, "caption.noise" if rng.random() < noise else "caption.sentences")
            if rng.random() < noise:
                self._templates.fill(draft, "caption.tails")
        for _ in range(rng.choice([0, 1, 1, 2, 3])):
            draft.say(".")
            self._templates.fill(draft, "caption.noise" if rng.random() < 0.85 else "caption.exclusions")

    def _caption(self, draft: Draft) -> None:
        """Append a caption without articles: "old man reading newspaper by window"."""
        self._sentences.bare = True
        self._sentences.chain(draft)
        self._sentences.bare = False

    def _list(self, draft: Draft) -> None:
        """Append a list of things, sometimes with a place: "a cat, two dogs and a red ball on a carpet"."""
        self._sentences.bare = self._rng.random() < 0.2
        if self._rng.random() < 0.12:
            draft.name(self._sentences.noun_phrase())
            draft.say(self._rng.choice([":", ", with", ", including", ", featuring"]))
        self._sentences.series(
            draft, self._rng.randint(2, 6) if self._rng.random() < 0.85 else self._rng.randint(7, 20)
        )
        if self._rng.random() < 0.4:
            draft.say(self._sentences.relation())
            self._sentences.object(draft)

    def _tag_list(self, draft: Draft) -> None:
        """Append tags of things and style: "1girl, red hair, forest, masterpiece, holding a sword, no cars"."""
        rng = self._rng
        for index in range(rng.randint(2, 7) if rng.random() < 0.7 else rng.randint(8, 24)):
            if index:
                draft.say(",")
            draw = rng.random() if index else 1
            if draw < 0.3:
                draft.say(self._tags(1)[0])
            elif draw < 0.36:
                draft.say(self._sentences.relation())
                draft.name(self._nouns.sample())
            elif draw < 0.42:
                draft.name(self._nouns.bare())
                draft.say(self._sentences.relation())
                self._sentences.object(draft)
            elif draw < 0.45:
                draft.say(f"no {self._nouns.bare().text}")
            else:
                self._tag(draft, first=index == 0)

    def _tag(self, draft: Draft, first: bool) -> None:
        """Append a thing as a tag, mostly without article; sometimes with a weight or, as the first tag, a count."""
        rng = self._rng
        if first and rng.random() < 0.06:
            count, noun = rng.choice([1, 1, 1, 2, 3]), self._nouns.noun()
            noun = noun if count == 1 else self._lexicon.plural(noun)
            draft.name(NounPhrase(f"{count}{noun}", (noun,), noun))
            return
        phrase = self._nouns.bare() if rng.random() < 0.85 else self._nouns.sample()
        draft.name(phrase, self._weighted(phrase.text) if rng.random() < 0.08 else None)

    def _weighted(self, words: str) -> str:
        """Write words with a weight, as for some image generators: "(red sofa:1.2)"."""
        weight = round(self._rng.uniform(0.3, 1.9), 1)
        return self._rng.choice(
            [f"({words}:{weight})", f"({words})", f"(({words}))", f"[{words}]", f"{words}:{weight}"]
        )

    def _abstract(self, draft: Draft) -> None:
        """Append abstract ideas, which are not entities."""
        draft.say(" and ".join(self._rng.sample(self._lexicon["noise_nouns"], self._rng.randint(1, 2))))

    def _tags(self, count: int) -> list[str]:
        """Draw style tags. A few have a weight, or name an invented artist or style."""
        rng = self._rng
        tags = rng.sample(self._lexicon.group("tags"), count)
        for index, tag in enumerate(tags):
            if rng.random() < 0.03:
                tags[index] = self._weighted(tag)
            elif self._split is Split.TRAIN and rng.random() < 0.06:
                name, second = self._nouns.invented_word(), self._nouns.invented_word()
                invented = [f"by {name} {second}", f"{name} style", f"in the style of {name}", f"{name} aesthetic"]
                tags[index] = rng.choice(invented)
        return tags

    def _style(self, draft: Draft) -> None:
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
        """Capitalise the prompt as users do: each sentence, each word, every letter, or nothing."""
        draw = self._rng.random()
        if text.upper().lower() != text:  # the upper case of "ß" and some other letters cannot be converted back
            return text
        if draw < 0.68:
            sentences = text.split(". ")
            text = ". ".join(sentence[:1].upper() + sentence[1:] for sentence in sentences)
        elif draw < 0.73:
            text = text.title().replace("'S", "'s")
        elif draw < 0.75:
            text = text.upper()
        return text
