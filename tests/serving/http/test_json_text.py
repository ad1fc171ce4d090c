"""JSON is counted before it is parsed, and parsed more strictly than the standard library does."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from serve_app.errors import InvalidRequest, TooLarge
from serve_app.serving.http.json_text import CHUNK_BYTES, MAX_SEPARATORS, dump_chunks, loads


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-be"])
def test_loads_reads_every_encoding_of_json(encoding: str) -> None:
    value = {"prompt": "sofá 💚, [x]: {y}", "n": [1, 0.5, True, None]}
    assert loads(json.dumps(value, ensure_ascii=False).encode(encoding)) == value
    assert loads(json.dumps(value)) == value


@pytest.mark.parametrize(
    "unit",
    ["0,", "[],", '{"a":0},', '"",', "[[0]],", "[" * 9 + "]" * 9 + ","],
    ids=["numbers", "lists", "objects", "strings", "nested", "deep"],
)
def test_many_values_are_refused_before_they_are_built(unit: str) -> None:
    text = f"[{unit * MAX_SEPARATORS}0]"
    with pytest.raises(TooLarge, match="the body has over 100,000 brackets, commas and colons"):
        loads(text.encode(), "the body")


@pytest.mark.parametrize(
    ("start", "end"), [("[", "]"), ('{"a":', "}"), ("[", "")], ids=["lists", "objects", "unclosed"]
)
def test_deep_nesting_is_no_json_that_is_read(start: str, end: str) -> None:
    text = '{"prompt": ' + start * MAX_SEPARATORS + "1" + end * MAX_SEPARATORS + "}"
    with pytest.raises(InvalidRequest, match="the body is nested too deep"):
        loads(text, "the body")


def test_a_text_of_as_many_values_as_allowed_is_parsed() -> None:
    assert len(loads("[" + "0," * (MAX_SEPARATORS - 1) + "0]")) == MAX_SEPARATORS


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1,]", "NaN", "-Infinity", '{"a":1,"a":2}', "1" * 5000, b"\xff", b'"\xed\xa0"', "[" * 50_000],
    ids=lambda text: ascii(text)[:12],
)
def test_what_is_no_json_is_an_error_that_names_the_place(text: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^entities is ") as caught:
        loads(text, "entities", "entities")
    assert caught.value.field == "entities"
    assert len(caught.value.message) < 120


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        "é💚\u2028\x00",
        {"a": [1, 0.1, True, None, "x"], "b": {"c": []}},
        {"objects": [{"points": [[index, index / 3] for index in range(5000)], "hole": False}] * 3},
        [list(range(1024)), list(range(1025)), {"é": [[{"a": [0.5] * 65}]]}],
        {"long": 'é💚"\\\n' * 600_000, "strings": ["x" * 2_000_000] * 70},
        {"empty": [[] for _ in range(3000)], "mixed": [{"a": 1}, [0] * 70, "x"] * 900},
    ],
    ids=range(8),
)
def test_dumps_writes_what_the_standard_encoder_writes(value: Any) -> None:
    assert b"".join(dump_chunks(value)) == json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def test_a_large_answer_comes_in_chunks() -> None:
    value = {"overlay": "x" * (3 * CHUNK_BYTES), "points": [[index, index] for index in range(400_000)]}
    chunks = dump_chunks(value)
    assert b"".join(chunks) == json.dumps(value, separators=(",", ":")).encode()
    assert len(chunks) >= 7
    assert max(map(len, chunks)) < 2 * CHUNK_BYTES, "no piece is over a quarter"
    assert dump_chunks({}) == [b"{}"]


def test_dumps_writes_half_surrogate_pairs_as_question_marks_and_no_nan() -> None:
    assert b"".join(dump_chunks({"a": "\ud800"})) == b'{"a":"?"}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        b"".join(dump_chunks({"a": [[0.0] * 100, [float("nan")]]}))


def test_dumps_leaves_other_threads_time_while_it_writes_a_large_answer() -> None:
    value = {"points": [[index, index] for index in range(600_000)]}
    longest = 0.0
    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(dump_chunks, value)
        while not writing.done():
            started = time.monotonic()
            time.sleep(0.001)
            longest = max(longest, time.monotonic() - started)
        whole = time.monotonic()
        json.dumps(value)
        whole = time.monotonic() - whole
    assert longest < whole / 2
