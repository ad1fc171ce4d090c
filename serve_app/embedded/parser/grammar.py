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

from serve_app.embedded.parser.lexicon import Lexicon, load_lexicon
from serve_app.embedded.parser.noun_phrases import NounPhraseSampler, Split
from serve_app.embedded.parser.sentences import Draft, SentenceSampler


@dataclass(frozen=True)
class PromptSample:
    """A prompt and the answer expected for it.

    Args:
        prompt: the text, as a user would write it.
        entities: the distinct entities, lower-case, in order of appearance.
    """

    prompt: str
    entities: tuple[str, ...]


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
        self._sentences = SentenceSampler(self._lexicon, self._rng, split, self._nouns)
        self._bodies: list[tuple[float, Callable[[Draft], None]]] = [
            (40, self._sentences.chain),
            (22, self._sentences.clause),
            (14, self._caption),
            (10, self._list),
            (6, self._sentences.located),
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
        draft = Draft()
        self._sentences.bare = False
        if rng.random() < 0.05:
            draft.say(", ".join(self._tags(rng.randint(1, 3))) + ",")
        body = rng.choices([make for _, make in self._bodies], [weight for weight, _ in self._bodies])[0]
        if rng.random() < 0.33 and body != self._sentences.located:
            draft.say(rng.choice(self._lexicon["frames"]))
        body(draft)
        sentences = rng.choices([0, 1, 2, 3, 5], [80, 14, 4, 1.5, 0.5])[0]
        if sentences or rng.random() < 0.3:
            draft.say(".")
        for _ in range(sentences):
            self._sentences.further_sentence(draft)
            draft.say(".")
        self._style(draft)
        text = self._cased(draft.text)
        if rng.random() < 0.06:
            text += " " + " ".join(rng.sample(self._lexicon["suffixes"], rng.randint(1, 2)))
        return PromptSample(text, tuple(dict.fromkeys(entity.lower() for entity in draft.entities)))

    def _caption(self, draft: Draft) -> None:
        """Telegraphic, without articles: "old man reading newspaper by window"."""
        self._sentences.bare = True
        self._sentences.chain(draft)
        self._sentences.bare = False

    def _list(self, draft: Draft) -> None:
        """A list of things, at times in a place: "a cat, two dogs and a red ball on a carpet"."""
        self._sentences.bare = self._rng.random() < 0.2
        if self._rng.random() < 0.12:
            draft.name(self._sentences.noun_phrase())
            draft.say(self._rng.choice([":", ", with", ", including", ", featuring"]))
        self._sentences.series(draft, self._rng.randint(2, 6))
        if self._rng.random() < 0.4:
            draft.say(self._sentences.relation())
            self._sentences.object(draft)

    def _tag_list(self, draft: Draft) -> None:
        """Comma tags, things and style mixed: "girl, red hair, forest, masterpiece, cherry tree"."""
        rng = self._rng
        for index in range(rng.randint(2, 7)):
            if index:
                draft.say(",")
            if index and rng.random() < 0.3:
                draft.say(self._tags(1)[0])
            else:
                draft.name(self._nouns.bare() if rng.random() < 0.85 else self._nouns.sample())

    def _abstract(self, draft: Draft) -> None:
        """A prompt that names nothing to outline."""
        draft.say(" and ".join(self._rng.sample(self._lexicon["noise_nouns"], self._rng.randint(1, 2))))

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
