"""A mention of an entity, with the number of things that it asks for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from serve_app.entities.mentions.noun_phrases import Mention
from serve_app.entities.mentions.quantities import Quantity
from serve_app.entities.mentions.tokens import Token


@dataclass(frozen=True)
class Phrase:
    """A noun phrase of the prompt that names an entity, and how many things it asks for."""

    mention: Mention
    quantity: Quantity

    @property
    def entity(self) -> int:
        """Index of the entity."""
        return self.mention.entity

    @property
    def start(self) -> int:
        """Index of the first token, with the number or article."""
        return self.quantity.start

    @property
    def last(self) -> int:
        """Index of the last token."""
        return self.mention.last

    def quote(self, prompt: str, tokens: Sequence[Token], start: int | None = None) -> str:
        """Return the phrase's words in the prompt, from the token `start` if it is given."""
        first = self.start if start is None else start
        words = prompt[tokens[first].start : tokens[self.last].end]
        return re.sub(r"['\u2019]s?$", "", words) if tokens[self.last].owns else words


def only_between(tokens: Sequence[Token], start: int, stop: int, allowed: frozenset[str]) -> bool:
    """Tell whether all tokens from `start` (included) to `stop` (excluded) are allowed words."""
    return start <= stop and all(token.kind != "reference" and token.text in allowed for token in tokens[start:stop])
