"""The flat table: its cells, and that pandas reads CSV and Parquet alike."""

from __future__ import annotations

import json
from pathlib import Path

import pandas
import pytest

from tests.batch.exports.folder import export, jobs_of

TABLE = """\
id,role,index,path,entity,count,presence,best_score,area,asked,status,error,column.group,column.seed
both,contextual,0,a/p.png,ring,1,0.9,0.9,63,,,,one,7
both,contextual,0,a/p.png,parts,1,0.9,0.9,58,,,,one,7
both,generated,0,b/p.png,ring,1,0.9,0.9,63,,,,one,7
both,generated,0,b/p.png,parts,1,0.9,0.9,58,,,,one,7
'=2,contextual,0,a/p.png,dog,2,0.9,0.9,208,,,,two,
'=2,contextual,0,a/p.png,nothing,0,0.9,,0,,,,two,
'=2,contextual,0,a/p.png,empty,1,0.9,0.9,0,,,,two,
'=2,generated,0,c.png,dog,2,0.9,0.9,208,,,,two,
'=2,generated,0,c.png,nothing,0,0.9,,0,,,,two,
'=2,generated,0,c.png,empty,1,0.9,0.9,0,,,,two,
3,contextual,0,a/p.png,dog,2,0.9,0.9,208,1,unknown,,,
3,contextual,0,a/p.png,broken,0,0.9,,0,,,,,
3,generated,0,c.png,dog,,,,,1,unknown,internal,,
3,generated,0,c.png,broken,,,,,,,internal,,
"""
"""The generated image of row 3 failed: that is no count of 0. The pixels that two dogs share count once."""


def test_the_csv_has_a_row_an_image_and_entity(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(results, "table", tmp_path / "t.csv") == 0
    assert (tmp_path / "t.csv").read_text().replace("\r\n", "\n") == TABLE
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"wrote {tmp_path / 't.csv'}: 14 rows, 3 jobs",
        f"1 job failed and has no results: see {results / 'errors'}",
    ]


def test_pandas_reads_both_kinds_alike(results: Path, tmp_path: Path) -> None:
    for name in ("t.csv", "t.parquet"):
        export(results, "table", tmp_path / name)
    text = pandas.read_csv(tmp_path / "t.csv", dtype={"id": str})
    typed = pandas.read_parquet(tmp_path / "t.parquet")
    assert typed["id"].tolist()[4] == "=2"  # no spreadsheet reads Parquet: the id is as it was
    text["id"] = text["id"].str.removeprefix("'")
    assert [*text.columns] == [*typed.columns]
    pandas.testing.assert_frame_equal(text, typed, check_dtype=False)
    assert typed["count"].sum() == 4 + 6 + 2
    assert typed.loc[typed["error"].notna(), "count"].isna().all()


def test_the_area_is_known_whatever_format_the_masks_are_in(results: Path, tmp_path: Path) -> None:
    """The service's own conversion to polygons and PNG, read back; without masks the area is not known."""
    from serve_app.masks.formats import ENCODINGS

    lines = []
    for kind in ("polygon", "png", "none"):
        document = json.loads(json.dumps(jobs_of(results)["both"].document))
        for item in document["generated_image"]["objects"]:
            rle = item.pop("mask_rle")
            if kind != "none":
                encoding = ENCODINGS[kind]
                item[encoding.key] = encoding.write(rle, lambda _: None)
        lines.append(json.dumps({**document, "id": kind}) + "\n")
    (tmp_path / "lines.jsonl").write_text("".join(lines))
    export(tmp_path / "lines.jsonl", "table", tmp_path / "t.csv")
    table = pandas.read_csv(tmp_path / "t.csv")
    generated = table[table["role"] == "generated"]
    assert generated[generated["id"] != "none"]["area"].tolist() == [63, 58, 63, 58]
    assert generated[generated["id"] == "none"]["area"].isna().all()
    assert generated["count"].tolist() == [1] * 6
