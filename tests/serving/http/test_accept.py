"""The media type of an answer, chosen as RFC 9110 says."""

from __future__ import annotations

import pytest

from serve_app.serving.http.accept import preferred

JSON, LINES = "application/json", "application/x-ndjson"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        (LINES, LINES),
        ("APPLICATION/X-NDJSON", LINES),
        (f"{LINES}; charset=utf-8", LINES),
        (f"{JSON}, {LINES}", JSON),
        (f"{LINES}, {JSON}", JSON),
        (f"{LINES};q=0.5, {JSON};q=0.5", JSON),
        (f"{JSON}, {LINES};q=0.1", JSON),
        (f"{JSON};q=0.1, {LINES}", LINES),
        (f"{JSON};q=0.8, {LINES};q=0.9", LINES),
        (f"{JSON} ; q = 0.8 , {LINES} ; q=0.9", LINES),
        (f"{LINES}, */*", LINES),
        (f"*/*, {LINES}", LINES),
        (f"{LINES};q=0.5, */*", JSON),
        (f"{LINES}, */*;q=0.1", LINES),
        (f"application/*;q=0.2, {LINES};q=0.1", JSON),
        (f"{LINES};q=0", JSON),
        (f"{LINES};q=0.000", JSON),
        (f"{JSON};q=0, {LINES};q=0", JSON),
        (f"{JSON};q=0, */*", LINES),
        (f"{LINES};q=x", JSON),
        (f"{LINES};q=1.5", JSON),
        ("text/html", JSON),
        (f"text/html, {LINES};q=0.01", LINES),
        (f"{LINES}2", JSON),
        (",;,q=1", JSON),
    ],
)
def test_the_highest_weight_decides_and_json_is_the_favourite(accept: str, chosen: str) -> None:
    assert preferred(accept, (JSON, LINES)) == chosen
