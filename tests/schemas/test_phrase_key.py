from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

import serve_app.schemas.phrase_key as module
from serve_app.schemas.phrase_key import phrase_key


@pytest.mark.parametrize(
    ("left", "right"),
    [
        pytest.param("Dog", "DOG", id="case"),
        pytest.param("Straße", "STRASSE", id="case that changes the length"),
        pytest.param("ΣΊΣΥΦΟΣ", "σίσυφος", id="final sigma"),
        pytest.param("cafe\u0301 table", "caf\u00e9 table", id="composition"),
        pytest.param("CAFE\u0301", "caf\u00e9", id="case and composition"),
        pytest.param("q\u0323\u0307", "q\u0307\u0323", id="order of marks"),
        pytest.param("\u1f80\u0345", "\u1f80\u03b9", id="a letter that folds only when taken apart"),
        pytest.param(" red \t sofa\n", "red sofa", id="white space"),
        pytest.param("red\u00a0sofa", "red sofa", id="a space that does not break"),
        pytest.param("\ufeffdog", "dog", id="byte order mark"),
        pytest.param("do\u200bg", "dog", id="zero width space"),
        pytest.param("do\u00adg", "dog", id="soft hyphen"),
    ],
)
def test_phrases_typed_in_different_ways_have_one_key(left: str, right: str) -> None:
    assert phrase_key(left) == phrase_key(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [("dog", "dogs"), ("red sofa", "redsofa"), ("cafe", "café"), ("red-sofa", "red sofa"), ("狗", "犬")],
)
def test_different_phrases_have_different_keys(left: str, right: str) -> None:
    assert phrase_key(left) != phrase_key(right)


@given(st.text(max_size=30))
def test_a_key_is_its_own_key(phrase: str) -> None:
    assert phrase_key(phrase_key(phrase)) == phrase_key(phrase)


def test_the_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(module)
    assert (result.attempted, result.failed) == (2, 0)
