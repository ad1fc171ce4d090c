"""What a prompt asks for: numbers, exclusions and images, over a table of prompts as people write them."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from serve_app.entities.mentions import read_prompt
from tests.entities.mentions.cases import GROUPS
from tests.entities.mentions.further_cases import FAILURES, FURTHER_GROUPS


class Expected(NamedTuple):
    """One item of a case."""

    given: str | None
    entity: str
    asked: int | None
    exact: bool
    sources: tuple[int, ...]
    missing_images: tuple[int, ...]
    is_mentioned: bool
    quote: str | None


def expected_of(text: str) -> list[Expected]:
    """Read the short form of `cases`."""
    items = []
    for item in text.split("; "):
        match = re.fullmatch(
            r"(\+)?(?:([^<]+)<)?([^=]+)=(\d+|\?)(!?)(-?)(?:@([\d,]*)(?:\^([\d,]+))?)?(?: \"(.*)\")?", item
        )
        assert match is not None, item
        added, renamed, name, count, exact, absent, sources, missing_images, quote = match.groups()
        items.append(
            Expected(
                None if added else name, renamed or name, None if count == "?" else int(count), bool(exact),
                _numbers(sources), _numbers(missing_images), not absent, quote,
            )
        )  # fmt: skip
    return items


def _numbers(text: str | None) -> tuple[int, ...]:
    return tuple(int(number) for number in (text or "").split(",") if number)


CASES = [
    pytest.param(
        prompt, images, asked, id=f"{group}: {prompt or 'empty'}",
        marks=[pytest.mark.xfail(reason=FAILURES[prompt], strict=True)] if prompt in FAILURES else [],
    )
    for group, cases in (GROUPS | FURTHER_GROUPS).items()
    for prompt, images, asked in cases
]  # fmt: skip


@pytest.mark.parametrize(("prompt", "images", "asked"), CASES)
def test_a_prompt_asks_for(prompt: str, images: int, asked: str) -> None:
    expected = expected_of(asked)
    given = [item.given for item in expected if item.given is not None]
    found = read_prompt(prompt, given, images).asked
    assert [(a.entity, a.asked, a.exact, a.sources, a.missing_images, a.asked_as is not None) for a in found] == [
        (e.entity, e.asked, e.exact, e.sources, e.missing_images, e.is_mentioned) for e in expected
    ]
    quotes = [(e.quote, a.asked_as) for e, a in zip(expected, found, strict=True) if e.quote is not None]
    assert [quoted for _, quoted in quotes] == [quote for quote, _ in quotes]


def test_the_table_is_as_long_as_it_should_be() -> None:
    assert len(CASES) >= 230
