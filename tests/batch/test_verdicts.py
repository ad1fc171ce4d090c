"""Verdicts over a dataset: the table, the means by group, Parquet, and what a folder refuses."""

from __future__ import annotations

import csv
import hashlib
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from serve_app.batch.output import OutputError
from serve_app.batch.parquet_schema import Contents, schema
from serve_app.batch.verdict_rows import COLUMNS
from serve_app.cli import batch
from serve_app.cli.batch_settings import config_settings
from serve_app.cli.options import CommandError
from serve_app.config.schema import AppConfig
from serve_app.schemas.dicts import ResultDict, VerdictDict
from serve_app.schemas.requests import SegmentRequest
from serve_app.schemas.verdict import Verdict
from tests.batch.command import parsed
from tests.batch.dataset import FakeSegment, by_id, connecting, read_lines, row_of, write_dataset

IDENTITY = {"model": "m", "pooling": "cls", "crop": "mask on grey, square, aspect kept", "threshold": 0.6}
ONE_OF_TWO: Any = {
    "arrived": False,
    "entities": [
        {
            "entity": "dogs", "asked": 2, "exact": True, "asked_as": "two dogs", "sources": [0], "found": 1,
            "status": "too_few", "objects": ["dogs_0"], "bare": None,
        },
        {
            "entity": "blue sofa", "asked": 1, "exact": False, "asked_as": "blue, big", "sources": [],
            "found": 0, "status": "other_attribute", "objects": [], "bare": {"entity": "sofa", "found": 1},
        },
    ],
    "references": [
        {
            "image": 0, "object_id": "dogs_0", "individual": 0, "match": "dogs_0", "similarity": 0.83,
            "margin": -0.25, "status": "arrived",
        },
        {
            "image": 0, "object_id": "dogs_1", "individual": 1, "match": None, "similarity": None, "margin": None,
            "status": "merged",
        },
    ],
    "overlaps": [{"image": "contextual_images[0]", "objects": ["dogs_0", "blue sofa_0"], "iou": 0.9}],
    "scores": {"entities": 0.0, "identity": 0.83, "collapsed": 0.5},
    "reasons": ["dogs: 2 asked, 1 found"],
    "identity": IDENTITY,
}  # fmt: skip
ALL_THERE: Any = {
    "arrived": True,
    "entities": [
        {
            "entity": "café", "asked": None, "exact": False, "asked_as": None, "sources": [], "found": 3,
            "status": "ok", "objects": ["café_0", "café_1", "café_2"], "bare": None,
        },
        {
            "entity": "=1+1", "asked": 0, "exact": True, "asked_as": "without -5", "sources": [], "found": 0,
            "status": "ok", "objects": [], "bare": None,
        },
    ],
    "references": [],
    "overlaps": [],
    "scores": {"entities": 1.0, "identity": None, "collapsed": None},
    "reasons": [],
    "identity": IDENTITY,
}  # fmt: skip
UNKNOWN: Any = {
    "arrived": None,
    "entities": [
        {
            "entity": "cat", "asked": 1, "exact": False, "asked_as": "cat", "sources": [], "found": None,
            "status": "unknown", "objects": [], "bare": None,
        }
    ],
    "references": [
        {
            "image": None, "object_id": None, "individual": None, "match": None, "similarity": None, "margin": None,
            "status": "unknown",
        }
    ],
    "overlaps": [],
    "scores": {"entities": None, "identity": None, "collapsed": None},
    "reasons": ["cat: unknown"],
    "identity": IDENTITY,
}  # fmt: skip
BY_PROMPT = {"one of two": ONE_OF_TWO, "all there": ALL_THERE, "unknown": UNKNOWN}

TABLE = """\
id,group,arrived,kind,entity,asked,exact,asked_as,sources,found,status,objects,bare,image,object_id,individual,match,similarity,margin
b,sdxl,false,entity,dogs,2,true,two dogs,[0],1,too_few,"[""dogs_0""]",,,,,,,
b,sdxl,false,entity,blue sofa,1,false,"blue, big",[],0,other_attribute,[],"{""entity"": ""sofa"", ""found"": 1}",,,,,,
b,sdxl,false,reference,,,,,,,arrived,,,0,dogs_0,0,dogs_0,0.83,-0.25
b,sdxl,false,reference,,,,,,,merged,,,0,dogs_1,1,,,
'@a,sdxl,true,entity,café,,false,,[],3,ok,"[""café_0"", ""café_1"", ""café_2""]",,,,,,,
'@a,sdxl,true,entity,'=1+1,0,true,without -5,[],0,ok,[],,,,,,,
-3,,,entity,cat,1,false,cat,[],,unknown,[],,,,,,,
-3,,,reference,,,,,,,unknown,,,,,,,,
"""


def by_prompt(request: SegmentRequest) -> VerdictDict:
    verdict: VerdictDict = BY_PROMPT[request.prompt]
    return verdict


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Four rows, some in one of two groups and some in none; the last asks for no verdict."""
    path = write_dataset(tmp_path, 1)
    image = {"generated": "images/g0.png"}
    rows: list[dict[str, Any]] = [
        {"id": "b", "prompt": "one of two", "group": "sdxl", **image},
        {"id": "@a", "prompt": "all there", "group": "sdxl", **image},
        {"id": "-3", "prompt": "unknown", "group": None, **image},
        {"id": "none", "prompt": "one of two", "group": "flux", "verdict": False, **image},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(manifest: Path, *flags: Any, segment: FakeSegment | None = None) -> Path:
    out = manifest.parent / "out"
    arguments = parsed(manifest, "--output", out, "--rows-per-shard", 2, *flags)
    assert batch.run_with(arguments, connecting(segment or FakeSegment(verdict=by_prompt))) == 0
    return out


def means(out: Path) -> Any:
    return json.loads((out / "summary.json").read_text())["verdict"]


def test_the_examples_are_verdicts() -> None:
    for verdict in BY_PROMPT.values():
        Verdict.model_validate(verdict)


def test_run_writes_a_row_an_entity_and_a_row_a_reference(manifest: Path) -> None:
    out = run(manifest, "--verdict")
    assert (out / "verdicts.csv").read_bytes().decode() == TABLE.replace("\n", "\r\n")
    with (out / "verdicts.csv").open(newline="", encoding="utf-8") as file:
        assert [row["kind"] for row in csv.DictReader(file)].count("reference") == 3
    assert {line["id"]: line["verdict"] for line in read_lines(out)} == {
        "b": ONE_OF_TWO, "@a": ALL_THERE, "-3": UNKNOWN, "none": None,
    }  # fmt: skip


def test_the_table_has_every_field_of_both_kinds_of_rows() -> None:
    fields = {name for rows in (ONE_OF_TWO["entities"], ONE_OF_TWO["references"]) for row in rows for name in row}
    assert set(COLUMNS) == {"id", "group", "arrived", "kind"} | fields


def test_run_writes_the_table_in_the_order_of_the_manifest_whatever_finished_first(manifest: Path) -> None:
    class LastFirst(FakeSegment):
        async def __call__(self, request: SegmentRequest) -> ResultDict:
            self.pause_s = {"one of two": 0.05, "all there": 0.02}.get(request.prompt, 0.0)
            return await super().__call__(request)

    out = run(manifest, "--verdict", segment=LastFirst(verdict=by_prompt))
    assert read_lines(out)[0]["id"] == "-3"
    assert (out / "verdicts.csv").read_text() == TABLE


def test_run_writes_the_means_of_each_group(manifest: Path) -> None:
    judged = {
        "arrived": {"mean": 0.5, "rows": 2},
        "entities": {"mean": 0.5, "rows": 2},
        "identity": {"mean": 0.83, "rows": 1},
        "collapsed": {"mean": 0.5, "rows": 1},
    }
    nothing = {measure: {"mean": None, "rows": 0} for measure in judged}
    assert means(run(manifest, "--verdict")) == {
        "all": {"rows": 3, **judged},
        "groups": {"": {"rows": 1, **nothing}, "sdxl": {"rows": 2, **judged}},
    }


def test_means_are_over_all_runs_and_do_not_depend_on_their_order(tmp_path: Path) -> None:
    rows = [{**row_of(number), "group": number % 3 or None} for number in range(12)]
    found = []
    for name, orders in (("at once", [rows]), ("bit by bit", [rows[7:], rows[2:], rows])):
        path = write_dataset(tmp_path / name, 12)
        for each in orders:
            path.write_text("".join(json.dumps(row) + "\n" for row in each))
            out = run(path, "--verdict", segment=FakeSegment())
        found.append((means(out), (out / "verdicts.csv").read_text()))
    assert found[0] == found[1]
    images = [f"c{number}.png".encode() for number in range(12)]
    similarities = [hashlib.blake2b(each, digest_size=1).digest()[0] / 256 for each in images]
    assert len(set(similarities)) > 6
    assert found[0][0]["all"]["identity"] == {"mean": statistics.mean(similarities), "rows": 12}
    of_one = {"mean": statistics.mean(similarities[1::3]), "rows": 4}
    assert found[0][0]["groups"]["1"]["identity"] == of_one
    assert {name: group["rows"] for name, group in found[0][0]["groups"].items()} == {"": 4, "1": 4, "2": 4}


def test_run_says_in_how_many_rows_everything_arrived(manifest: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = run(manifest, "--verdict")
    told = capfd.readouterr().err.splitlines()
    assert told[-2:] == [
        f"wrote {out}/verdicts.csv: 5 entities, 3 references",
        f"4 of 4 rows done, 4 images, 9 objects, everything arrived in 1 of 2 judged rows: {out}/summary.json",
    ]


def test_run_without_verdict_writes_no_table(manifest: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = run(manifest)
    assert not (out / "verdicts.csv").exists()
    assert means(out) is None
    assert "arrived" not in capfd.readouterr().err


def test_rows_may_ask_for_a_verdict_themselves(manifest: Path) -> None:
    table = manifest.with_suffix(".csv")
    table.write_text(
        "id,prompt,generated,verdict,group\na,all there,images/g0.png,TRUE,x\nb,unknown,images/g0.png,,y\n"
    )
    out = run(table)
    assert {line["id"]: line["verdict"] for line in read_lines(out)} == {"a": ALL_THERE, "b": None}
    assert [row.split(",")[:4] for row in (out / "verdicts.csv").read_text().splitlines()[1:]] == [
        ["a", "x", "true", "entity"],
        ["a", "x", "true", "entity"],
    ]
    assert list(means(out)["groups"]) == ["x"]


def test_run_with_no_verdict_to_write_writes_an_empty_table(manifest: Path) -> None:
    manifest.write_text(manifest.read_text().splitlines()[-1])
    out = run(manifest, "--verdict")
    assert (out / "verdicts.csv").read_text() == TABLE.splitlines()[0] + "\n"


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ([], ["--verdict"], "was written without --verdict, but now it is given; choose another folder"),
        (["--verdict"], [], "was written with --verdict, but now it is not given; choose another folder"),
        (["--verdict"], ["--verdict", "--overlay-style", "outline"], "without --overlay-style, but now it is outline"),
    ],
    ids=["new", "gone", "style"],
)
def test_run_refuses_a_folder_of_another_setting(
    manifest: Path, before: list[str], now: list[str], message: str
) -> None:
    run(manifest, *before)
    with pytest.raises(OutputError, match=message):
        run(manifest, *now)


@pytest.mark.parametrize(
    ("change", "comes"),
    [
        ({**IDENTITY, "model": "n"}, "n, threshold 0.6"),
        ({**IDENTITY, "threshold": 0.7}, "m, threshold 0.7"),
        (None, "none"),
    ],
    ids=["model", "threshold", "none"],
)
def test_run_refuses_verdicts_of_another_identity_model(manifest: Path, change: Any, comes: str) -> None:
    out = run(manifest, "--verdict")
    with manifest.open("a") as file:
        file.write(json.dumps({"id": "new", "prompt": "one of two", "generated": "images/g0.png"}) + "\n")
    other: Any = {**ONE_OF_TWO, "identity": change}
    with pytest.raises(OutputError, match=f"holds verdicts of m, threshold 0.6, but the new ones are of {comes}"):
        run(manifest, "--verdict", segment=FakeSegment(verdict=lambda _: other))
    assert "new" not in by_id(read_lines(out))
    run(manifest, "--verdict")
    assert means(out)["all"]["rows"] == 4


def test_run_goes_on_in_a_folder_of_a_version_without_verdicts(manifest: Path) -> None:
    out = run(manifest)
    for path in out.glob("part-*.jsonl"):
        path.write_text(path.read_text().replace('"verdict": null, ', ""))
    job = out / ".genseg-batch" / "job.json"
    job.write_text(json.dumps({key: value for key, value in json.loads(job.read_text()).items() if key != "identity"}))
    assert "verdict" not in read_lines(out)[0]
    with pytest.raises(OutputError, match="was written without --verdict, but now it is given"):
        run(manifest, "--verdict")
    with manifest.open("a") as file:
        file.write(json.dumps({"id": "new", "prompt": "all there", "generated": "images/g0.png", "verdict": True}))
    run(manifest, "--format", "parquet")
    assert means(out)["all"]["rows"] == 1
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [row for path in sorted(out.glob("*.parquet")) for row in parquet.read_table(path).to_pylist()]
    assert {row["id"]: row["verdict"] for row in rows} == {
        "b": None, "@a": None, "-3": None, "none": None, "new": ALL_THERE,
    }  # fmt: skip


def test_parquet_holds_the_verdicts_in_a_column_of_their_own_type(manifest: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out = run(manifest, "--verdict", "--format", "parquet")
    rows = [row for path in sorted(out.glob("*.parquet")) for row in parquet.read_table(path).to_pylist()]
    assert {row["id"]: row["verdict"] for row in rows} == {
        "b": ONE_OF_TWO, "@a": ALL_THERE, "-3": UNKNOWN, "none": None,
    }  # fmt: skip


def test_run_without_an_identity_model(manifest: Path, config: Any) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    without: Any = {**ALL_THERE, "identity": None}
    segment = FakeSegment(verdict=lambda _: without)
    out = run(manifest, "--verdict", "--format", "parquet", segment=segment)
    rows = [row for path in out.glob("*.parquet") for row in parquet.read_table(path).to_pylist()]
    assert [row["verdict"] for row in rows if row["id"] != "none"] == [without] * 3
    run(manifest, "--verdict", "--config", config("model_name: none"))
    with pytest.raises(OutputError, match=r"with models\.identity\.model_name: none, but now it is m"):
        run(manifest, "--verdict", "--config", config("model_name: m"))


def test_parquet_has_the_fields_of_a_verdict() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    assert names_of(schema(pyarrow, Contents()).field("verdict").type) == fields_of(Verdict)


def names_of(kind: Any) -> Any:
    """The names in a type of pyarrow, lists left out."""
    if hasattr(kind, "value_type"):
        return names_of(kind.value_type)
    return {field.name: names_of(field.type) for field in kind} if kind.num_fields else None


def fields_of(model: type[BaseModel]) -> Any:
    described: Any = model.model_json_schema()

    def fields(part: Any) -> Any:
        part = next((each for each in part.get("anyOf", []) if each.get("type") != "null"), part)
        if "$ref" in part:
            return fields(described["$defs"][part["$ref"].rpartition("/")[2]])
        if "items" in part:
            return fields(part["items"])
        return {name: fields(each) for name, each in part["properties"].items()} if "properties" in part else None

    return fields(described)


def test_outline_is_a_style_of_overlays(manifest: Path) -> None:
    segment = FakeSegment(verdict=by_prompt)
    run(manifest, "--overlays", "--outline", segment=segment)
    assert {request.overlay_style for request in segment.requests} == {"outline"}
    run(manifest, "--overlays", "--overlay-style", "outline")
    with pytest.raises(OutputError, match="was written with --overlay-style outline, but now it is not given"):
        run(manifest, "--overlays")
    with pytest.raises(CommandError, match=r"^--outline: contradicts --overlay-style fill$"):
        run(manifest, "--outline", "--overlay-style", "fill")


def test_run_does_not_let_the_coco_file_take_the_place_of_the_table(manifest: Path) -> None:
    with pytest.raises(CommandError, match="the results have a file of that name"):
        run(manifest, "--verdict", "--coco", manifest.parent / "out" / "verdicts.csv")


SAM3 = "models: {{text_parser: {{model_name: fake-parser}}, segmentation: {{model_name: fake-segmenter}}{}}}\n"


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """Writes a configuration of real models with an identity model."""

    def write(identity: str = "") -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(SAM3.format(f", identity: {{{identity}}}" if identity else ""))
        return path

    return write


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ("model_name: m", "model_name: n", "with models.identity.model_name: m, but now it is n"),
        ("model_name: m", "", "with models.identity.model_name: m, but now it is none"),
        ("threshold: 0.6", "threshold: 0.7", "with models.identity.threshold: 0.6, but now it is 0.7"),
        ("", "threshold: 0.7", "with models.identity.threshold: null, but now it is 0.7"),
    ],
    ids=["model", "gone", "threshold", "own threshold"],
)
def test_run_refuses_a_folder_of_another_identity_model(
    manifest: Path, config: Any, before: str, now: str, message: str
) -> None:
    run(manifest, "--verdict", "--config", config(before))
    with pytest.raises(OutputError, match=message):
        run(manifest, "--verdict", "--config", config(now))


@pytest.mark.parametrize(
    ("before", "now"),
    [("", "model_name: none"), ("model_name: none", ""), ("model_name: auto", "")],
    ids=["none", "gone", "auto"],
)
def test_run_takes_the_identity_model_that_auto_means(manifest: Path, config: Any, before: str, now: str) -> None:
    run(manifest, "--config", config(before))
    run(manifest, "--config", config(now))


def test_a_folder_records_what_decides_about_results() -> None:
    assert config_settings(AppConfig()).keys() == {
        *(f"models.{model}.{key}" for model in ("text_parser", "segmentation") for key in ("engine", "model_name")),
        *(f"models.identity.{key}" for key in ("model_name", "threshold")),
        "models.segmentation.head_dtype",
        *(f"segmentation.{key}" for key in ("threshold", "mask_threshold")),
        *(f"entity_filter.{key}" for key in ("excluded_terms", "builtin_terms", "only_from_prompt")),
    }


def forget_identity(out: Path) -> None:
    """Make the folder one of a version that knew no identity model."""
    path = out / ".genseg-batch" / "job.json"
    job = json.loads(path.read_text())
    job["settings"] = {name: value for name, value in job["settings"].items() if "identity" not in name}
    path.write_text(json.dumps(job))


def test_run_counts_an_identity_model_that_the_folder_does_not_record_as_auto(manifest: Path, config: Any) -> None:
    """The value `auto` names another identity model for each segmenter."""
    forget_identity(run(manifest, "--config", config()))
    run(manifest, "--config", config())
    forget_identity(run(manifest, "--config", config()))
    message = r"model_name: none \(the default, because the folder does not record it\), but now it is m"
    with pytest.raises(OutputError, match=message):
        run(manifest, "--config", config("model_name: m"))


def test_run_knows_the_identity_model_of_verdicts_of_a_running_service(manifest: Path, config: Any) -> None:
    """Such a service does not tell its configuration."""
    run(manifest, "--verdict")
    with pytest.raises(OutputError, match=r"with models\.identity\.model_name: m, but now it is n"):
        run(manifest, "--verdict", "--config", config("model_name: n"))
    with pytest.raises(OutputError, match=r"with models\.identity\.threshold: 0\.6, but now it is 0\.7"):
        run(manifest, "--verdict", "--config", config("model_name: m, threshold: 0.7"))
    run(manifest, "--verdict", "--config", config("model_name: m"))
