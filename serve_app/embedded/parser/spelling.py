"""Respells words of a prompt and of its entities with letters and digits that the word lists hardly contain.

A parser that has only copied the letters "a" to "z" in training copies "jalapeño", "łódź" and "747" wrongly.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

_ACCENTED = {
    "a": "áàâäãåāăą", "c": "çćčĉċ", "d": "ďđð", "e": "éèêëēėęě", "g": "ğģĝġ", "h": "ħĥ", "i": "íìîïīįı", "j": "ĵ",
    "k": "ķ", "l": "łľļĺ", "n": "ñńňņ", "o": "óòôöõøōőœ", "r": "řŕŗ", "s": "śšşșŝß", "t": "ťțţþ", "u": "úùûüūůűųŭ",
    "w": "ŵ", "y": "ýÿŷ", "z": "źžż",
}  # fmt: skip
"""Accented Latin letters, by the plain letter that they replace."""

_SCRIPTS = (
    "абвгдежзийклмнопрстуфхцчшщъыьэюяіїєґ",
    "αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώ",
    "的一是不人大中国山水火木金土日月花鳥犬猫狗車龍寺城茶酒川海空雪风雨桥门书画红蓝白黑",
    "あいうえおかきくけこさしすせそたちつてとアイウエオカキクケコラーメン",
    "가나다라마바사아자차카타파하김치떡볶이한국강산",
    "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "अआइईउऊकखगघचजटडतदनपबमयरलवशसह",
    "אבגדהוזחטיכלמנסעפצקרשת",
)
_WORD = re.compile(r"(?<![\w-])[a-z]{3,}(?![\w-])")
"""A word that is not part of a compound with a hyphen, so that "three-legged" does not change."""
_KEPT = {"year", "old"}
"""Words that do not change, because without them the "5" of "5 year old" would be a count."""
_RESPELLED = 0.3
"""Share of samples with respelled words."""


def respell(text: str, entities: Sequence[str], rng: random.Random) -> tuple[str, list[str]]:
    """Respell some words of the entities, in the prompt and in all entities alike.

    Args:
        text: the prompt, in lower case.
        entities: the entities of the prompt.
        rng: source of all random choices.

    Returns:
        The prompt and its entities; unchanged in most cases.
    """
    words = sorted({word for entity in entities for word in _WORD.findall(entity)} - _KEPT)
    if not words or rng.random() >= _RESPELLED:
        return text, list(entities)
    chosen = rng.sample(words, min(len(words), rng.choice([1, 1, 2, 3])))
    spellings = {word: respelled(word, rng) for word in chosen}

    def spelled(old: str) -> str:
        return _WORD.sub(lambda match: spellings.get(match.group(), match.group()), old)

    return spelled(text), [spelled(entity) for entity in entities]


def respelled(word: str, rng: random.Random) -> str:
    """Return a word with accented letters or digits, or random letters of another script in its place."""
    draw = rng.random()
    if draw < 0.55:
        return _accented(word, rng)
    if draw < 0.7:
        letters = rng.choice(_SCRIPTS)
        return "".join(rng.choice(letters) for _ in range(rng.randint(1, 6)))
    number = str(rng.randint(0, 10 ** rng.randint(1, 4)))
    # A bare number before a noun would be a count, so only a year may be one.
    forms = (f"{word} {number}", f"{rng.randint(1800, 2099)} {word}", f"{word}-{number}", f"{word[0]}{number}",
             f"{word}{number}", f"{word[0]}{number[0]}-{word[1]}{number[-1]}", f"{number}-{word}",
             f"number {number} {word}")  # fmt: skip
    return rng.choice(forms)


def _accented(word: str, rng: random.Random) -> str:
    places = [place for place, letter in enumerate(word) if letter in _ACCENTED]
    letters = list(word)
    for place in rng.sample(places, min(len(places), rng.choice([1, 1, 2, 3]))):
        letters[place] = rng.choice(_ACCENTED[word[place]])
    return "".join(letters)
