"""Manifests that other programs write: each is read, or refused with one line that says what to do."""

from __future__ import annotations

import decimal
import gzip
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from serve_app.batch.manifest import ManifestError, Row, check_rows, read_rows

ROW = {"id": "r1", "prompt": "a dog, a cat", "generated": "g.png"}
CELLS = ["r1", "a dog, a cat", "g.png"]
NAMES = ["id", "prompt", "generated"]


def rows_of(path: Path) -> list[Row]:
    return [placed.row for placed in check_rows(path)]


def file_of(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def table(delimiter: str, *rows: list[str], end: str = "\r\n") -> str:
    def quoted(cell: str) -> str:
        return f'"{cell}"' if delimiter in cell else cell

    return "".join(delimiter.join(map(quoted, row)) + end for row in [NAMES, *rows])


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.txt"])
def test_the_delimiter_of_a_table_is_found(tmp_path: Path, delimiter: str, name: str) -> None:
    assert rows_of(file_of(tmp_path, name, table(delimiter, CELLS))) == [Row.model_validate(ROW)]


@pytest.mark.parametrize("delimiter", [";", "\t", ",", "^"])
@pytest.mark.parametrize("quoted", [False, True])
def test_the_sep_line_of_excel_names_the_delimiter(tmp_path: Path, delimiter: str, quoted: bool) -> None:
    line = f"sep={delimiter}"
    path = file_of(tmp_path, "rows.csv", (f'"{line}"' if quoted else line) + "\r\n" + table(delimiter, CELLS))
    assert [(placed.line, placed.row) for placed in read_rows(path)] == [(3, Row.model_validate(ROW))]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["rows.csv", "rows.txt"])
def test_a_table_is_read_in_the_encoding_that_its_first_bytes_name(tmp_path: Path, encoding: str, name: str) -> None:
    path = file_of(tmp_path, name, table("\t", ["r1", "ein Hündchen 狗", "g.png"]).encode(encoding))
    assert rows_of(path) == [Row(id="r1", prompt="ein Hündchen 狗", generated="g.png")]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_json_is_read_in_the_encoding_that_its_first_bytes_name(tmp_path: Path, encoding: str) -> None:
    text = "".join(json.dumps({**ROW, "id": number}, ensure_ascii=False) + "\r\n" for number in (1, 2))
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    assert [row.id for row in rows_of(file_of(tmp_path, "rows.jsonl", (mark + text).encode(encoding)))] == [1, 2]


def test_a_table_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    path = file_of(tmp_path, "rows.csv", table(",", CELLS, ["r2", "ein Hündchen", "g.png"]).encode("cp1252"))
    with pytest.raises(ManifestError, match=r"rows\.csv:3: not UTF-8; in Excel, save the file as “CSV UTF-8”"):
        rows_of(path)


def test_cells_of_a_spreadsheet_are_read(tmp_path: Path) -> None:
    """Decimal commas, TRUE, numbers as 5.0, empty lines at the end, and cells beyond the last column."""
    text = (
        "id;prompt;generated;contextual;threshold;overlays;timeout_s;seed;\r\n"
        'r1;a dog;g.png;"x.png;y.png";0,25;TRUE;5,0;0,5;\r\n'
        "r2;a dog;g.png;;;FALSE;;;;;\r\n"
        ";;;;;;;;\r\n"
    )
    first, second = rows_of(file_of(tmp_path, "rows.csv", text))
    wanted = {"contextual": ["x.png", "y.png"], "threshold": 0.25, "overlays": True, "timeout_s": 5.0}
    assert first.model_dump(exclude_defaults=True) == {"id": "r1", "prompt": "a dog", "generated": "g.png", **wanted}
    assert first.columns == {"seed": "0,5"}
    assert (second.overlays, second.given(), second.columns) == (False, {"overlays": False}, {})


def test_lists_as_pandas_writes_them_into_a_csv_are_read(tmp_path: Path) -> None:
    text = "id,contextual,entities,thresholds\nr1,\"['x.png', 'y;1.png']\",\"['dog']\",\"{'dog': 0.3}\"\n"
    (row,) = rows_of(file_of(tmp_path, "rows.csv", text))
    assert (row.contextual, row.entities, row.thresholds) == (["x.png", "y;1.png"], ["dog"], {"dog": 0.3})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", ",id,prompt,generated\n0,r1,a dog,g.png\n", r"a\.csv: the first column has no name; .*index=False"),
        ("a.csv", "id,prompt,,generated\nr1,a dog,x,g.png\n", r"a\.csv:2: column 3 has no name"),
        ("a.csv", "id,contextual,contextual\nr1,g.png,n.png\n", r"a\.csv:1: the column 'contextual' is named twice"),
        ("a.csv", "id,prompt,seed,seed\nr1,x,1,2\n", r"a\.csv:1: the column 'seed' is named twice"),
        ("a.csv", "ID,Prompt,generated\nr1,x,y\n", r":1: unknown field 'ID'; did you mean 'id'\?, .*'Prompt'; did you"),
        ("a.csv", "key;text\nr1;x\n", r"a\.csv:1: there is no column 'id'; the columns are: 'key', 'text'$"),
        ("a.csv", 'id,contextual\nr1,"[a.png, b.png]"\n', r":2: contextual: not JSON; a list is a;b or \["),
        ("a.csv", "id,prompt,generated,overlays\nr1,x,g.png,perhaps\n", r":2: overlays: must be true or false"),
        ("a.csv", 'id,thresholds\nr1,"{""a"":1,""a"":0}"\n', r":2: thresholds: 'a' is given twice"),
        ("a.csv", "id,prompt,generated,threshold\nr1,x,g.png,\"0,5\"\n", r":2: threshold: not a number"),
        ("a.jsonl", '{"id": 1, "prompt": "x", "generated": "g", "prompt": "y"}\n', r":1: 'prompt' is given twice"),
        ("a.jsonl", '{"id": 1, "thresholds": {"a": 1, "a": 0}}\n', r":1: 'a' is given twice"),
        ("a.json", '[{"id": 1, "id": 2}]', r"a\.json: in one of its objects, 'id' is given twice"),
        ("a.json", '[{"id": 1},\n {"id"]', r"a\.json:2: not a JSON array: "),
        ("a.json", '[{"id": 1, "prompt": "x", "generated": "g"}, 7]', r"a\.json:2: not a JSON object"),
        ("a.json", '{"id": {"0": "a"}, "prompt": {"0": "x"}}', r"id: an object.*orient='records'"),
        ("a.xlsx", b"PK\x03\x04rest", r"a\.xlsx: a workbook of a spreadsheet is not read; save .* as “CSV UTF-8”"),
        ("a.csv", b"PK\x03\x04rest", r"a\.csv: a workbook of a spreadsheet is not read"),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", r"a\.xls: a workbook"),
        ("a.ods", b"PK\x03\x04", r"a\.ods: a workbook"),
        ("a.jsonl.gz", gzip.compress(b"{}", mtime=0), r"a\.jsonl\.gz: a compressed file is not read; unpack it first"),
        ("a.jsonl", gzip.compress(b"{}", mtime=0), r"a\.jsonl: a compressed file"),
        ("a.feather", b"ARROW1\0\0", r"a\.feather: an Arrow file is not read; write it as Parquet or JSONL"),
        ("a.jsonl", "\ufeff".encode("utf-16") + b"\x00\xd8", r"its first bytes say UTF-16, but the file is not UTF-16"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_refused_in_one_line(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(ManifestError, match=message) as caught:
        rows_of(file_of(tmp_path, name, content))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows"])
def test_an_array_of_objects_is_read(tmp_path: Path, name: str) -> None:
    rows = [{**ROW, "id": number, "contextual": None} for number in range(3)]
    path = file_of(tmp_path, name, "\n " + json.dumps(rows, indent=1))
    assert [(placed.line, placed.row.id) for placed in read_rows(path)] == [(1, 0), (2, 1), (3, 2)]


@pytest.mark.parametrize(
    "write",
    [lambda rows: json.dumps(rows[0], indent=1), lambda rows: "\n".join(map(json.dumps, rows))],
    ids=["one object over lines", "lines"],
)
def test_json_that_is_no_array_is_read(tmp_path: Path, write: Callable[[Any], str]) -> None:
    found = rows_of(file_of(tmp_path, "rows.json", write([ROW, {**ROW, "id": 2}])))
    assert found[0] == Row.model_validate(ROW)


pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def parquet_of(folder: Path, columns: dict[str, Any]) -> Path:
    path = folder / "rows.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_the_index_of_pandas_is_no_column(tmp_path: Path) -> None:
    index = {"__index_level_0__": [7, 3], "__index_level_1__": ["x", "y"]}
    path = parquet_of(
        tmp_path, {"id": ["a", "b"], "prompt": ["x", "y"], "generated": ["g", "g"], "seed": [1, 2], **index}
    )
    assert [(row.id, row.columns) for row in rows_of(path)] == [("a", {"seed": 1}), ("b", {"seed": 2})]


def test_nulls_of_parquet_are_no_values(tmp_path: Path) -> None:
    thresholds = [{"dog": 0.3, "cat": None}, {"dog": None, "cat": 0.5}, None]
    columns = {"id": [1, 2, 3], "prompt": ["x"] * 3, "generated": ["g"] * 3, "thresholds": thresholds}
    rows = rows_of(parquet_of(tmp_path, {**columns, "threshold": [None, 0.25, float("nan")]}))
    assert [row.thresholds for row in rows] == [{"dog": 0.3}, {"cat": 0.5}, {}]
    assert [row.threshold for row in rows] == [None, 0.25, None]


def test_types_of_databases_are_read(tmp_path: Path) -> None:
    """DuckDB writes 0.3 as a decimal; other programs leave texts as bytes, or in a dictionary."""
    pairs = pyarrow.map_(pyarrow.string(), pyarrow.decimal128(3, 2))
    columns = {
        "id": pyarrow.array([1.0]),
        "prompt": pyarrow.array([b"a dog"]),
        "generated": pyarrow.array(["g.png"]).dictionary_encode(),
        "contextual": pyarrow.array([["x.png"]], pyarrow.large_list(pyarrow.large_string())),
        "thresholds": pyarrow.array([[("dog", decimal.Decimal("0.30"))]], pairs),
        "threshold": pyarrow.array([decimal.Decimal("0.25")]),
        "day": pyarrow.array([date(2026, 1, 2)]),
        "raw": pyarrow.array([b"\xff\xfe"]),
        "steps": pyarrow.array([2**40]),
    }
    (row,) = rows_of(parquet_of(tmp_path, columns))
    assert row == read_like(id=1, prompt="a dog", generated="g.png", contextual=["x.png"], threshold=0.25)
    assert row.thresholds == {"dog": 0.3}
    assert row.columns == {"day": "2026-01-02", "raw": "<2 bytes>", "steps": 2**40}


def read_like(**fields: Any) -> Row:
    row = Row(thresholds={"dog": 0.3}, **fields)
    row._columns = {"day": "2026-01-02", "raw": "<2 bytes>", "steps": 2**40}
    return row


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["id", "prompt", "prompt"], r"rows\.parquet: the column 'prompt' is named twice"),
        (["ID", "prompt", "generated"], r"rows\.parquet: unknown field 'ID'; did you mean 'id'\?"),
    ],
)
def test_names_of_parquet_columns_are_checked_once(tmp_path: Path, names: list[str], message: str) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.Table.from_arrays([pyarrow.array(["x", "y"])] * 3, names=names), path)
    with pytest.raises(ManifestError, match=message) as caught:
        rows_of(path)
    assert "\n" not in caught.value.message


def test_a_key_that_a_map_names_twice_is_refused(tmp_path: Path) -> None:
    pairs = pyarrow.array(
        [[("dog", 0.3)], [("dog", 0.3), ("dog", 0.5)]], pyarrow.map_(pyarrow.string(), pyarrow.float64())
    )
    path = parquet_of(tmp_path, {"id": [1, 2], "prompt": ["x"] * 2, "generated": ["g"] * 2, "thresholds": pairs})
    with pytest.raises(ManifestError, match=r"^.*rows\.parquet:2: thresholds: names a key twice$"):
        rows_of(path)


def test_parquet_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    path = parquet_of(tmp_path, {"id": [1], "prompt": ["x"], "generated": ["g"]})
    assert [row.id for row in rows_of(path.rename(tmp_path / "rows"))] == [1]


def bad_text(*values: bytes) -> Any:
    """A column of texts that are not checked to be UTF-8, as some programs write them."""
    return pyarrow.Array.from_buffers(pyarrow.string(), len(values), pyarrow.array(values, pyarrow.binary()).buffers())


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("id", pyarrow.array([b"a", b"\xff"])),
        ("prompt", pyarrow.array([b"a dog", b"\xff"])),
        ("prompt", pyarrow.array([b"a dog", b"\xff"]).dictionary_encode()),
        ("prompt", bad_text(b"a dog", b"\xff")),
        ("generated", pyarrow.array([b"g.png", b"caf\xe9.png"])),
        ("contextual", pyarrow.array([[b"g.png"], [b"a.png", b"caf\xe9.png"]])),
        ("entities", pyarrow.array([[b"dog"], [b"\xff"]])),
        ("thresholds", pyarrow.array([[(b"dog", 0.3)], [(b"\xff", 0.3)]], pyarrow.map_("binary", "double"))),
        ("mask_format", pyarrow.array([b"rle", b"\xff"])),
    ],
    ids=["id", "prompt", "dictionary", "text", "path", "list", "entities", "map", "option"],
)
def test_a_field_in_parquet_that_is_not_utf_8_is_wrong(tmp_path: Path, name: str, values: Any) -> None:
    columns = {"id": ["1", "2"], "prompt": ["x"] * 2, "generated": ["g"] * 2, "contextual": [["c"]] * 2, name: values}
    path = parquet_of(tmp_path, columns)
    assert next(read_rows(path)).line == 1
    with pytest.raises(ManifestError, match=rf"^.*rows\.parquet:2: {name}: not UTF-8$"):
        rows_of(path)


def test_bytes_of_fields_are_read_as_text(tmp_path: Path) -> None:
    columns = {
        "id": [b"\xc3\xa9"],
        "prompt": [b"x"],
        "contextual": [[b"caf\xc3\xa9.png"]],
        "thresholds": pyarrow.array([[(b"dog", 0.3)]], pyarrow.map_("binary", "double")),
        "other": pyarrow.array([[(b"k", b"v")]], pyarrow.map_("binary", "binary")),
        "text": bad_text(b"\xff\xff"),
    }
    (row,) = rows_of(parquet_of(tmp_path, columns))
    assert (row.id, row.contextual, row.thresholds) == ("é", ["café.png"], {"dog": 0.3})
    assert row.columns == {"other": {"k": "v"}, "text": "<2 bytes>"}


NANOSECONDS = 1_767_322_984_123_456_789
AT = "2026-01-02T03:03:04.123456789"


def as_type(numbers: list[int | None], kind: Any) -> Any:
    return pyarrow.array(numbers, pyarrow.int32() if kind == pyarrow.date32() else pyarrow.int64()).cast(kind)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (as_type([None, NANOSECONDS], pyarrow.timestamp("ns")), AT),
        (as_type([None, 123_456_789], pyarrow.time64("ns")), "00:00:00.123456789"),
        (as_type([None, 1_500_000_001], pyarrow.duration("ns")), 1.500000001),
        (as_type([None, 10**17], pyarrow.timestamp("ms")), "<value out of range: 100000000000000000>"),
        (as_type([None, 10**8], pyarrow.date32()), "<value out of range: 100000000>"),
        (pyarrow.array([None, [NANOSECONDS]], pyarrow.list_(pyarrow.timestamp("ns"))), [AT]),
        (pyarrow.array([None, {"at": NANOSECONDS}], pyarrow.struct({"at": pyarrow.timestamp("ns")})), {"at": AT}),
        (as_type([None, NANOSECONDS], pyarrow.timestamp("ns")).dictionary_encode(), AT),
    ],
    ids=["timestamp", "time", "duration", "far time", "far date", "list", "struct", "dictionary"],
)
def test_a_column_that_python_has_no_exact_value_for_becomes_its_text(
    tmp_path: Path, values: Any, expected: Any
) -> None:
    columns = {"id": [1, 2], "prompt": ["x"] * 2, "generated": ["g"] * 2, "at": values}
    rows = rows_of(parquet_of(tmp_path, columns))
    assert [row.columns for row in rows] == [{}, {"at": expected}]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (as_type([None, NANOSECONDS - 789], pyarrow.timestamp("ns")), AT.removesuffix("789")),
        (as_type([None, 123_456_000], pyarrow.time64("ns")), "00:00:00.123456"),
        (as_type([None, 1_500_000_000], pyarrow.duration("ns")), 1.5),
    ],
    ids=["timestamp", "time", "duration"],
)
def test_nanoseconds_that_are_whole_microseconds_read_alike_with_and_without_pandas(
    tmp_path: Path, values: Any, expected: Any
) -> None:
    columns = {"id": [1, 2], "prompt": ["x"] * 2, "generated": ["g"] * 2, "at": values}
    rows = rows_of(parquet_of(tmp_path, columns))
    assert [row.columns for row in rows] == [{}, {"at": expected}]


def test_a_field_that_python_has_no_exact_value_for_is_wrong(tmp_path: Path) -> None:
    values = as_type([NANOSECONDS], pyarrow.timestamp("ns"))
    with pytest.raises(ManifestError, match=r"rows\.parquet:1: prompt: cannot be read: Nanosecond"):
        rows_of(parquet_of(tmp_path, {"id": [1], "prompt": values, "generated": ["g"]}))
