import numpy as np
import pytest

from serve_app.embedded.plurals import plural
from serve_app.embedded.segmenter.phrases import (
    ALL_CONCEPTS,
    BASES,
    COLOURED_BASES,
    INVARIABLE,
    LOOK_ALIKES,
    NATURAL_COLOURS,
    SPRITE_CONCEPTS,
    SYNONYMS,
    UNKNOWN_NOUNS,
    Concept,
    concepts_of,
    make_queries,
    phrase_for,
)


def test_tables_name_known_bases_only() -> None:
    known = set(BASES)
    assert len(known) == len(BASES) == 55
    assert len(COLOURED_BASES) == 16
    assert set(COLOURED_BASES) | set(SYNONYMS) | set(NATURAL_COLOURS) <= known
    assert {base for family in LOOK_ALIKES for base in family} <= known
    assert not known & set(UNKNOWN_NOUNS)
    assert len(SPRITE_CONCEPTS) == 55 - 16 + 16 * 7


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("dog", "dogs"), ("bus", "buses"), ("butterfly", "butterflies"), ("key", "keys"), ("couch", "couches"),
        ("sheep", "sheep"), ("palm tree", "palm trees"), ("blue fish", "blue fish"),
    ],
)  # fmt: skip
def test_plural(noun: str, expected: str) -> None:
    assert plural(noun, INVARIABLE) == expected


def test_concepts_of_lists_the_broader_ones() -> None:
    assert concepts_of(Concept("sofa", "red")) == (Concept("sofa", "red"), Concept("sofa"))
    assert concepts_of(Concept("red apple")) == (Concept("red apple"), Concept("apple"))
    assert concepts_of(Concept("dog")) == (Concept("dog"),)


def test_phrase_for_uses_names_synonyms_and_colours() -> None:
    rng = np.random.default_rng(0)
    phrases = {phrase_for(rng, Concept("sofa", "red")) for _ in range(300)}
    assert {"red sofa", "red couch", "red sofas"} <= phrases
    assert all("red" in phrase for phrase in phrases)


@pytest.mark.parametrize("sprites", [(), (Concept("dog"),), (Concept("car", "red"), Concept("car", "blue"))], ids=len)
def test_make_queries_asks_distinct_concepts_and_says_which_objects(sprites: tuple[Concept, ...]) -> None:
    for seed in range(50):
        queries = make_queries(np.random.default_rng(seed), sprites, 3, 5)
        assert len(queries) == 5 == len({query.concept for query in queries})
        for query in queries:
            assert query.objects == tuple(i for i, s in enumerate(sprites) if query.concept in concepts_of(s))
            assert bool(query.objects) == (query.kind in ("plain", "coloured", "group"))
        assert sum(bool(query.objects) for query in queries) <= 3


def test_make_queries_covers_every_concept() -> None:
    rng = np.random.default_rng(0)
    asked = {query.concept for _ in range(2000) for query in make_queries(rng, (), 0, 4)}
    assert set(ALL_CONCEPTS) <= asked
