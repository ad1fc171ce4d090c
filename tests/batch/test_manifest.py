"""Manifests: the three formats give the same rows, and every error names its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serve_app.batch.manifest import ManifestError, Row, check_rows, read_rows

GOOD = {"id": "a", "prompt": "a dog", "generated": "g.png"}


def jsonl(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_read_rows_reads_jsonl(tmp_path: Path) -> None:
    path = jsonl(tmp_path, GOOD, "", {"id": 7, "prompt": "a cat", "contextual": ["x.png", "s3://b/y.png"]})
    first, second = read_rows(path)
    assert (first.line, first.row.key, first.row.sources) == (1, "a", ("g.png",))
    assert (second.line, second.row.id, second.row.sources) == (3, 7, ("x.png", "s3://b/y.png"))


def test_read_rows_names_the_line_of_half_a_character(tmp_path: Path) -> None:
    path = jsonl(tmp_path, GOOD, {**GOOD, "id": "b", "prompt": "\ud800 dog"})
    with pytest.raises(ManifestError, match=r"rows.jsonl:2: prompt: .*surrogate"):
        list(read_rows(path))


def test_read_rows_takes_a_byte_order_mark_and_crlf(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n")
    assert [placed.row.id for placed in read_rows(path)] == ["a"]


def test_read_rows_reads_csv(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        "id,prompt,contextual,generated,entities,threshold,thresholds\n"
        'a,"a dog, red",x.png; y.png,g.png,,,\n'
        'b,,"[""p;1.png""]",,"[""dog""]",0.25,"{""dog"": 0.5}"\n'
    )
    rows = [placed.row for placed in read_rows(path)]
    assert rows == [
        Row(id="a", prompt="a dog, red", contextual=["x.png", "y.png"], generated="g.png"),
        Row(id="b", contextual=["p;1.png"], entities=["dog"], threshold=0.25, thresholds={"dog": 0.5}),
    ]


def test_read_rows_reads_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    values = [
        {"id": 1, "prompt": "a dog", "contextual": ["x.png"], "generated": None, "threshold": None},
        {"id": 2, "prompt": "a cat", "contextual": None, "generated": "g.png", "threshold": 0.25},
    ]
    parquet.write_table(pyarrow.Table.from_pylist(values), path)
    placed = [*read_rows(path)]
    assert [each.line for each in placed] == [1, 2]
    assert [each.row for each in placed] == [
        Row(id=1, prompt="a dog", contextual=["x.png"]),
        Row(id=2, prompt="a cat", generated="g.png", threshold=0.25),
    ]


def test_read_rows_refuses_what_only_claims_to_be_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "rows.parquet"
    path.write_text("id\n")
    with pytest.raises(ManifestError, match=r"rows\.parquet: not a Parquet file"):
        [*read_rows(path)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "not a JSON object"),
        ('{"id": 1, "prompt": "a", "generated": "g.png", "x": ' + "[" * 900 + "]" * 900 + "}", "x: nested too deep"),
        ('{"id": 1, "prompt": "a", "generated": "g.png", "x": ' + '{"a": ' * 300 + "1" + "}" * 301, "x: nested too"),
        ('{"id": 1, "x": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deep"),
        ("[1]", "not a JSON object"),
        ({**GOOD, "id": None}, "id"),
        ({**GOOD, "id": ""}, "id"),
        ({**GOOD, "id": True}, "id"),
        ({"prompt": "a dog", "generated": "g.png"}, "id: required"),
        ({"id": "b", "prompt": "a dog"}, "no image"),
        ({"id": "b", "prompt": " ", "generated": "g.png"}, "the prompt is empty"),
        ({**GOOD, "contextual": "x.png"}, "contextual"),
        ({**GOOD, "contextual": ["x.png", ""]}, r"contextual\[1\]"),
        ({**GOOD, "contextal": ["x.png"]}, "unknown field 'contextal'; did you mean 'contextual'"),
        ({**GOOD, "threshold": 2}, "threshold"),
        ('{"id": "a", "prompt": "a dog", "generated": "g.png", "threshold": NaN}', "threshold"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_check_rows_names_the_line(tmp_path: Path, row: Any, message: str) -> None:
    path = jsonl(tmp_path, {**GOOD, "id": "first"}, row)
    with pytest.raises(ManifestError, match=rf"rows\.jsonl:2: .*{message}"):
        [*check_rows(path)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,prompt,generated\na,a dog,g.png,more\n", ":2: more cells"),
        ("id,prompt,generated,threshold\na,a dog,g.png,high\n", ":2: threshold: not a number"),
        ('id,prompt,generated,entities\na,a dog,g.png,"[dog]"\n', ":2: entities: not JSON"),
        ("id,prompt,generated\na,a dog,g.png\na,a cat,g.png\n", ":3: the id 'a' is already used in line 2"),
    ],
    ids=["cells", "number", "json", "twice"],
)
def test_check_rows_names_the_line_of_a_csv(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(ManifestError, match=message):
        [*check_rows(path)]


@pytest.mark.parametrize("before", ["\n", "\n\r\n \n", ",,\n,,\n", "\nsep=,\n", "sep=,\n\n"])
@pytest.mark.parametrize("ending", ["csv", "txt"])
def test_a_table_may_have_empty_lines_before_its_names(tmp_path: Path, before: str, ending: str) -> None:
    path = tmp_path / f"rows.{ending}"
    path.write_bytes(f"{before}id,prompt,generated\na,a dog,g.png\n\nb,a cat,h.png,more\n".encode())
    rows = read_rows(path)
    line = before.count("\n") + 2
    first = next(rows)
    assert (first.line, first.row.id, first.row.generated) == (line, "a", "g.png")
    with pytest.raises(ManifestError, match=rf":{line + 2}: more cells than the first line has names"):
        next(rows)


def test_the_line_of_the_names_is_told_after_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\n\nid,prompt,prompt\n")
    with pytest.raises(ManifestError, match=r"rows\.csv:3: the column 'prompt' is named twice"):
        [*read_rows(path)]


def test_check_rows_names_an_unknown_field_of_a_row_with_every_field(tmp_path: Path) -> None:
    every = Row.model_validate(GOOD).model_dump(exclude_none=True)
    path = jsonl(tmp_path, {**every, **dict.fromkeys(["contextal", *"abcdefgh"], "x")})
    with pytest.raises(ManifestError, match="unknown field 'contextal'; did you mean 'contextual'"):
        [*check_rows(path)]


def test_check_rows_names_the_id_first(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {**GOOD, "id": "", "threshold": 2})
    with pytest.raises(ManifestError, match=r"rows\.jsonl:1: id"):
        [*check_rows(path)]


def test_check_rows_refuses_more_entities_than_any_configuration_allows(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {**GOOD, "entities": ["dog"] * 1025})
    with pytest.raises(ManifestError, match="entities: 1025 items are over the limit of 1024"):
        [*check_rows(path)]


def test_check_rows_refuses_an_id_that_comes_twice_with_both_lines(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {**GOOD, "id": "1"}, GOOD, {**GOOD, "id": 1})
    with pytest.raises(ManifestError, match=r"rows\.jsonl:3: the id '1' is already used in line 1"):
        [*check_rows(path)]


@pytest.mark.parametrize("wrong", [12, 20, 27])
def test_check_rows_names_twenty_wrong_rows_and_says_where_all_are(tmp_path: Path, wrong: int) -> None:
    path, everything = jsonl(tmp_path, *["{"] * wrong), tmp_path / "wrong-rows.txt"
    everything.write_text("of an earlier run")
    with pytest.raises(ManifestError) as caught:
        [*check_rows(path, all_wrong=everything)]
    lines = caught.value.message.splitlines()
    every = [f"{path}:{line}: not a JSON object" for line in range(1, wrong + 1)]
    assert lines[:20] == every[:20]
    if wrong <= 20:
        assert lines[20:] == []
        assert not everything.exists()
    else:
        assert lines[20:] == [f"{path}: {wrong - 20} more rows are wrong; {everything} names all {wrong}"]
        assert everything.read_text().splitlines() == every


def test_check_rows_calls_the_file_what_it_is_told_to(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"^standard input:1: not a JSON object$"):
        [*check_rows(jsonl(tmp_path, "{"), "standard input")]


@pytest.mark.parametrize("content", [b"", b"\n\n"], ids=["empty", "blank lines"])
def test_check_rows_refuses_a_manifest_without_rows(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match="no rows"):
        [*check_rows(path)]


def test_read_rows_names_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none\.jsonl: No such file"):
        [*read_rows(tmp_path / "none.jsonl")]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"id": "b"}, True),
        ({"threshold": None, "contextual": []}, True),
        ({"prompt": "a cat"}, False),
        ({"generated": "h.png"}, False),
        ({"threshold": 0.0}, False),
    ],
    ids=str,
)
def test_digest_tells_a_changed_row(change: dict[str, Any], same: bool) -> None:
    assert (Row.model_validate(GOOD).digest() == Row.model_validate({**GOOD, **change}).digest()) is same


@pytest.mark.parametrize(
    ("row", "digest"),
    [
        (GOOD, 6463650648480144795),
        (
            {"id": 7, "prompt": "ein Hund, rotes Sofá", "contextual": ["x.png", "s3://b/y.png"]},
            5452423121316825572,
        ),
        (
            {
                **{"id": "b", "contextual": ["x.png"], "generated": "g.png", "entities": ["dog", "red sofa"]},
                **{"threshold": 0.25, "mask_threshold": 0, "thresholds": {"red sofa": 0.6, "dog": 0.5}},
                **{"mask_format": "polygon", "overlays": True, "timeout_s": 7},
            },
            7583895907114759788,
        ),
        (
            {
                **{"id": "c", "prompt": "a dog", "generated": "g.png", "entities": [], "threshold": None},
                **{"mask_format": "rle", "overlays": False, "thresholds": {}},
            },
            4112357950765154507,
        ),
    ],
    ids=["prompt", "contextual", "every field", "defaults"],
)
def test_digest_stays_so_that_folders_of_earlier_versions_go_on(row: dict[str, Any], digest: int) -> None:
    assert Row.model_validate(row).digest() == digest
