"""Finds words of a prompt that exclude the things after them: "no", "without", "remove".

Not every "no" excludes: "no longer", "a no smoking sign", "do not remove the hat".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from serve_app.entities.mentions.tokens import Token
from serve_app.entities.mentions.words import DEFINITE, INDEFINITE, PREPOSITIONS, is_number, phrases_of, words_of

LOCAL_CUES = phrases_of(
    "instead of, rather than, in place of, free of, devoid of, absence of, no sign of, no signs of, no trace of, "
    "not a single, not any, not a, not an, not the, not include, not contain, not show, not add, not have, not "
    "draw, not want, not depict, not be any, not be a, not be an, shouldn't be any, shouldn't be a, shouldn't be "
    "an, not wear, not wearing, not holding, not carrying, not having, not showing, not using, isn't wearing, "
    "isn't holding, doesn't have, doesn't wear, don't wear, don't include, don't contain, don't add, don't show, "
    "don't draw, don't have, don't want, don't depict, isn't a, isn't an, isn't any, aren't any, neither, nor, "
    "no, without, w/o, sans, excluding, lacking, avoid, minus"
)
"""Words that exclude the noun phrase after them."""

REMOVING_CUES = phrases_of(
    "get rid of, getting rid of, rid of, do away with, take away, taking away, take out, cut out, crop out, edit out, "
    "photoshop out, clear away, remove, removing, delete, deleting, erase, erasing, exclude, eliminate, "
    "eliminating, omit, omitting"
)
"""Verbs that exclude the noun phrases after them, also in a series: "remove the dog and the cat"."""

NEGATIONS = words_of("not don't doesn't didn't never cannot can't won't shouldn't mustn't without avoid no neither nor")
_BEFORE_VERB = words_of("just please ever to need needs want have try completely actually simply")
"""Words that may stand between a negation and its verb: "do not ever remove"."""

_BEFORE_INSTRUCTION = PREPOSITIONS | words_of(
    "and or then please to you i we just also now but not don't never let lets let's should must can could would will "
    "need needs want try help first next finally instead maybe perhaps image picture photo scene here prompt edit task "
    "instruction do no avoid start begin"
)
"""Words before a verb that gives an instruction."""
_AFTER_NO = words_of("longer one matter doubt wonder fewer less more problem question need way idea")
"""If one of these follows, "no" excludes nothing: "no longer", "no doubt"."""

_SAYING = words_of("says say saying said reads words word")
"""Words before the text of a sign: "a sign that says no dogs"."""

_BY_ITSELF = frozenset({"no", "not", "neither", "nor"})
"""First words of cues that are negations themselves, so a negation before them does not matter."""

LONGEST_CUE = 3
"""How many words before a verb are searched for a negation."""


@dataclass(frozen=True)
class Cue:
    """Words that exclude something: tokens `start` (included) to `stop` (excluded); `removes` is true for verbs."""

    start: int
    stop: int
    removes: bool


_BY_FIRST_WORD: dict[str, list[tuple[tuple[str, ...], bool]]] = {}
for _cues, _removes in ((LOCAL_CUES, False), (REMOVING_CUES, True)):
    for _words in _cues:
        _BY_FIRST_WORD.setdefault(_words[0], []).append((_words, _removes))


def cues(tokens: Sequence[Token]) -> Iterator[Cue]:
    """Yield the cues of a prompt from left to right, without those that exclude nothing."""
    place = 0
    while place < len(tokens):
        cue = _cue_at(tokens, place)
        if cue is not None:
            place = cue.stop - 1
            if not _is_void(tokens, cue):
                yield cue
        place += 1


def is_negated(tokens: Sequence[Token], verb: int) -> bool:
    """Tell whether the verb at a token is negated: "do not remove", "without removing", "no need to replace"."""
    place = verb - 1
    while place >= 0 and verb - place <= LONGEST_CUE and tokens[place].text in _BEFORE_VERB:
        place -= 1
    return place >= 0 and tokens[place].kind == "word" and tokens[place].text in NEGATIONS


def is_instruction(tokens: Sequence[Token], verb: int) -> bool:
    """Tell whether the verb at a token is an instruction; in "two men remove their hats" it describes the scene."""
    if verb == 0 or tokens[verb - 1].kind != "word":
        return True
    before = tokens[verb - 1].text
    return before in _BEFORE_INSTRUCTION or before.endswith("ly")


def _cue_at(tokens: Sequence[Token], place: int) -> Cue | None:
    for words, removes in _BY_FIRST_WORD.get(tokens[place].text, ()):
        if [token.text for token in tokens[place : place + len(words)]] == list(words):
            return Cue(place, place + len(words), removes)
    return None


def _is_void(tokens: Sequence[Token], cue: Cue) -> bool:
    """Tell whether words that look like a cue exclude nothing."""
    before = tokens[cue.start - 1].text if cue.start else ""
    after = tokens[cue.stop].text if cue.stop < len(tokens) else ""
    if before in DEFINITE | INDEFINITE:  # "a no smoking sign", "the cut out shape"
        return True
    word = tokens[cue.start].text
    if word in _BY_ITSELF and before in _SAYING:  # "a sign that says no dogs"
        return True
    if word == "no" and cue.stop == cue.start + 1 and (after in _AFTER_NO or is_number(after)):
        return True
    if after == "only":  # "not the only dog"
        return True
    if cue.removes and not is_instruction(tokens, cue.start):
        return True
    return word not in _BY_ITSELF and is_negated(tokens, cue.start)
