"""Defines the concepts that the embedded segmenter learns, and draws phrases that name them.

It handles words only; `glyphs` draws the pictograms.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from serve_app.embedded.plurals import plural

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink")

BASES = (
    "dog", "cat", "horse", "cow", "sheep", "elephant", "rabbit", "bird", "duck", "fish", "turtle", "butterfly",
    "car", "bus", "bicycle", "airplane", "boat", "train", "truck", "house", "tree", "palm tree", "flower", "cactus",
    "mushroom", "sofa", "chair", "bed", "lamp", "clock", "book", "phone", "guitar", "umbrella", "key", "gift",
    "balloon", "ball", "basketball", "crown", "hat", "backpack", "red apple", "green apple", "banana", "pizza", "cake",
    "carrot", "strawberry", "bottle", "cup", "heart", "star", "circle", "square",
)  # fmt: skip

COLOURED_BASES = (
    "car", "sofa", "book", "umbrella", "balloon", "bird", "fish", "butterfly", "heart", "circle", "square", "boat",
    "backpack", "mushroom", "gift", "bed",
)  # fmt: skip

SYNONYMS: dict[str, tuple[str, ...]] = {
    "sofa": ("couch",), "bicycle": ("bike",), "airplane": ("plane",), "boat": ("sailboat",),
    "phone": ("smartphone", "cellphone"), "ball": ("soccer ball", "football"), "rabbit": ("bunny",),
    "dog": ("puppy",), "cat": ("kitten",), "clock": ("alarm clock",), "cup": ("coffee cup", "cup of coffee", "teacup"),
    "flower": ("sunflower",), "gift": ("present",), "hat": ("top hat",), "lamp": ("light bulb",), "book": ("notebook",),
    "truck": ("lorry",), "cake": ("birthday cake",), "house": ("home", "cottage"), "backpack": ("bag",),
    "bottle": ("champagne bottle",), "pizza": ("slice of pizza",), "car": ("automobile",),
}  # fmt: skip

NATURAL_COLOURS: dict[str, str] = {
    "dog": "brown", "horse": "brown", "elephant": "gray", "sheep": "white", "rabbit": "white", "turtle": "green",
    "tree": "green", "cactus": "green", "banana": "yellow", "flower": "yellow", "crown": "golden", "key": "golden",
    "cat": "orange", "chair": "wooden", "guitar": "red", "phone": "black", "bicycle": "blue", "basketball": "orange",
    "hat": "black", "carrot": "orange", "strawberry": "red", "star": "yellow",
}  # fmt: skip
"""The colour or material of pictograms that have only one. A phrase may name it."""

LOOK_ALIKES: tuple[tuple[str, ...], ...] = (
    ("ball", "basketball", "circle", "balloon", "red apple", "green apple", "clock"),
    ("sheep", "rabbit", "ball", "cup"),
    ("dog", "cat", "horse", "cow", "sheep", "rabbit", "elephant"),
    ("bird", "duck", "fish", "butterfly", "turtle"),
    ("car", "bus", "truck", "train", "bicycle"),
    ("airplane", "boat", "bird", "fish"),
    ("tree", "palm tree", "cactus", "flower", "mushroom", "carrot"),
    ("red apple", "green apple", "strawberry", "carrot", "banana", "heart", "balloon"),
    ("sofa", "chair", "bed", "house"),
    ("cup", "bottle", "lamp", "phone", "key"),
    ("heart", "star", "circle", "square", "gift", "book", "balloon"),
    ("pizza", "cake", "banana", "star", "crown"),
    ("backpack", "gift", "hat", "crown", "book", "phone", "square"),
    ("umbrella", "mushroom", "balloon", "hat", "guitar", "key"),
)

UNKNOWN_NOUNS = (
    "person", "man", "woman", "child", "girl", "boy", "king", "robot", "dragon", "knight", "wizard", "astronaut", "fox",
    "lion", "tiger", "bear", "wolf", "monkey", "snake", "frog", "owl", "parrot", "eagle", "shark", "whale", "spider",
    "bee", "deer", "pig", "mouse", "table", "desk", "window", "door", "wall", "floor", "carpet", "curtain", "mirror",
    "shelf", "vase", "pillow", "blanket", "kettle", "spoon", "plate", "bowl", "knife", "candle", "bench", "fence",
    "bridge", "road", "street", "river", "lake", "sea", "beach", "mountain", "hill", "grass",
    "meadow", "field", "sky", "cloud", "moon", "sun", "snow", "rock", "sand", "castle", "tower", "church", "city",
    "village", "market", "rocket", "tractor", "helicopter", "scooter", "violin", "piano", "drum", "camera", "laptop",
    "television", "radio", "glasses", "shoe", "dress", "jacket", "scarf", "ring", "sword", "lantern", "bucket", "rope",
    "ladder", "box", "basket", "barrel", "statue", "fountain", "bread", "cheese", "egg", "lemon", "grapes",
)  # fmt: skip
"""Nouns that no sprite shows. The model learns to answer unknown words with "nothing is there"."""

SYNONYM_RATE, NATURAL_COLOUR_RATE, PLURAL_RATE, QUALIFIER_RATE = 0.2, 0.15, 0.12, 0.06
"""Shares of the phrases with a synonym, a natural colour, a plural or a qualifier, where one is possible."""

NEAR_MISS_RATE, UNKNOWN_RATE = 0.4, 0.15
"""Shares of the draws for an absent concept that aim at a near miss (a concept that resembles one in the scene), and at
an unknown word (a concept that no sprite shows). Draws that are in the scene are rejected."""

INVARIABLE = {"sheep": "sheep", "fish": "fish"}
"""Plurals that equal the singular."""

QUALIFIERS = ("a", "the", "small", "big", "large", "little")


class Concept(NamedTuple):
    """The meaning of a phrase: a base noun, with or without a colour."""

    base: str
    colour: str | None = None


class Query(NamedTuple):
    """A phrase about a scene, and its right answer.

    Attributes:
        phrase: the words.
        concept: the meaning of the words.
        kind: "plain", "coloured" or "group" for a concept in the scene; "wrong colour", "look-alike", "absent" or
            "unknown word" for an absent one.
        objects: indices of the named objects, ascending; empty if the concept is absent.
    """

    phrase: str
    concept: Concept
    kind: str
    objects: tuple[int, ...]


SPRITE_CONCEPTS: tuple[Concept, ...] = tuple(
    Concept(base, colour) for base in BASES for colour in (COLOURS if base in COLOURED_BASES else (None,))
)
"""The most specific concept of each sprite. `Scene.sprites` contains these."""

SPRITES_OF_BASE: dict[str, tuple[Concept, ...]] = {
    base: tuple(concept for concept in SPRITE_CONCEPTS if concept.base == base) for base in BASES
}
"""The sprite concepts of each base noun."""


def concepts_of(sprite: Concept) -> tuple[Concept, ...]:
    """List all concepts that describe a sprite, the most specific first.

    >>> [tuple(concept) for concept in concepts_of(Concept("sofa", "red"))]
    [('sofa', 'red'), ('sofa', None)]
    """
    broader = [Concept(sprite.base)] if sprite.colour else []
    if sprite.base.endswith(" apple"):
        broader.append(Concept("apple"))
    return (sprite, *broader)


ALL_CONCEPTS: tuple[Concept, ...] = tuple(dict.fromkeys(c for s in SPRITE_CONCEPTS for c in concepts_of(s)))


def phrase_for(rng: np.random.Generator, concept: Concept) -> str:
    """Draw a phrase for a concept: its name, sometimes with a synonym, a natural colour, a plural or a qualifier."""
    base, colour = concept
    if base in SYNONYMS and rng.random() < SYNONYM_RATE:
        base = SYNONYMS[base][rng.integers(len(SYNONYMS[base]))]
    elif base in NATURAL_COLOURS and rng.random() < NATURAL_COLOUR_RATE:
        base = f"{NATURAL_COLOURS[base]} {base}"
    phrase = f"{colour} {base}" if colour else base
    qualifier = QUALIFIERS[rng.integers(len(QUALIFIERS))] if rng.random() < QUALIFIER_RATE else ""
    if qualifier != "a" and " of " not in phrase and rng.random() < PLURAL_RATE:
        phrase = plural(phrase, INVARIABLE)
    return f"{qualifier} {phrase}".strip()


def make_queries(
    rng: np.random.Generator, sprites: Sequence[Concept], max_present: int, num_queries: int
) -> list[Query]:
    """Draw queries about a scene, each with another concept: some are in the scene, the others are absent.

    Args:
        rng: source of all random choices.
        sprites: the concept of each object of the scene; may be empty.
        max_present: most queries that name something in the scene.
        num_queries: number of queries.

    Returns:
        `num_queries` queries, those with objects first.
    """
    present = list(dict.fromkeys(c for sprite in sprites for c in concepts_of(sprite)))
    chosen = [present[i] for i in rng.permutation(len(present))[: min(max_present, num_queries)]]
    queries = [_present_query(rng, concept, sprites) for concept in chosen]
    taken = set(present)
    while len(queries) < num_queries:
        kind, concept = _absent_candidate(rng, sprites)
        if concept not in taken:
            taken.add(concept)
            queries.append(Query(phrase_for(rng, concept), concept, kind, ()))
    return queries


def _present_query(rng: np.random.Generator, concept: Concept, sprites: Sequence[Concept]) -> Query:
    objects = tuple(i for i, sprite in enumerate(sprites) if concept in concepts_of(sprite))
    is_group = concept.colour is None and concept not in SPRITE_CONCEPTS
    kind = "coloured" if concept.colour else "group" if is_group else "plain"
    return Query(phrase_for(rng, concept), concept, kind, objects)


def _absent_candidate(rng: np.random.Generator, sprites: Sequence[Concept]) -> tuple[str, Concept]:
    """Draw the kind and the concept of a query for an absent thing. The caller must reject concepts of the scene."""
    draw = rng.random()
    if sprites and draw < NEAR_MISS_RATE:
        seen = sprites[int(rng.integers(len(sprites)))]
        if seen.colour and draw < NEAR_MISS_RATE / 2:
            return "wrong colour", Concept(seen.base, COLOURS[rng.integers(len(COLOURS))])
        families = [family for family in LOOK_ALIKES if seen.base in family]
        if families:
            family = families[rng.integers(len(families))]
            base = family[rng.integers(len(family))]
            colour = seen.colour if base in COLOURED_BASES and rng.random() < 0.5 else None
            return "look-alike", Concept(base, colour)
    if draw > 1 - UNKNOWN_RATE:
        colour = COLOURS[rng.integers(len(COLOURS))] if rng.random() < 0.3 else None
        return "unknown word", Concept(UNKNOWN_NOUNS[rng.integers(len(UNKNOWN_NOUNS))], colour)
    return "absent", ALL_CONCEPTS[rng.integers(len(ALL_CONCEPTS))]
