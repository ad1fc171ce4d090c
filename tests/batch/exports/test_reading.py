"""Which results are read, in which order, and the messages for results that cannot be read."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from serve_app.batch.exports import formats
from serve_app.batch.exports.reading import open_results
from serve_app.batch.exports.table import write_table
from serve_app.batch.output import OutputError
from serve_app.batch.shards import ShardWriter, readable_lines
from serve_app.cli.batch_paths import check_not_a_result
from serve_app.cli.options import CommandError
from serve_app.errors import GensegError
from tests.batch.exports.folder import ROWS, export, jobs_of, run_batch


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """An output folder that a test may change."""
    return run_batch(tmp_path / "own", "--format", "parquet")


def test_the_order_is_that_of_the_manifest_that_the_folder_names(own: Path) -> None:
    manifest = own.parent / "rows.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in reversed(ROWS)))
    opened = open_results(own)
    assert [job.id for job in opened.jobs()] == [3, "=2", "both"]
    assert [each["id"] for each in opened.failures()] == ["fails"]
    assert (opened.notes, opened.folder) == ((), own.parent)


def test_without_its_manifest_a_folder_is_read_as_it_is_stored(own: Path) -> None:
    manifest = own.parent / "rows.jsonl"
    moved = own.parent / "elsewhere" / "rows.jsonl"
    moved.parent.mkdir()
    manifest.rename(moved)
    opened = open_results(own)
    assert {job.id for job in opened.jobs()} == {"both", "=2", 3}
    assert opened.notes == (
        f"the folder's manifest {manifest} does not exist; if you moved it, give its path with --manifest",
    )
    assert open_results(own, moved).folder == moved.parent
    with pytest.raises(OutputError, match=r"--manifest .*none: there is no such file"):
        open_results(own, own / "none")


def test_a_row_that_changed_since_does_not_lend_its_pictures_to_the_result(own: Path) -> None:
    manifest = own.parent / "rows.jsonl"
    changed = [{**row, "generated": "a/p.png"} if row["id"] == "=2" else row for row in ROWS]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in changed))
    job = jobs_of(own)["=2"]
    assert [picture.source for picture in job.pictures] == ["a/p.png", "c.png"]


def test_a_job_that_was_stopped_shows_what_it_has_done(own: Path) -> None:
    shard = own / "part-00000.jsonl"
    lines = shard.read_text().splitlines(keepends=True)
    (own / ".part-00000.jsonl.partial").write_text("".join(lines[:2]) + lines[2][:40])
    shard.unlink()
    assert {str(job.id) for job in open_results(own).jobs()} == {str(json.loads(line)["id"]) for line in lines[:2]}


def test_parquet_gives_the_same_documents(own: Path) -> None:
    wanted = jobs_of(own)
    (own / "part-00000.jsonl").unlink()
    for place in (own, own / "part-00000.parquet"):
        found = jobs_of(place)
        assert {*found} == {"both", "=2", "3"}
        for name in ("both", "=2"):
            told, known = dict(found[name].document), dict(wanted[name].document)
            told["meta"], known["meta"] = (
                found[name].document["meta"]["models"],
                wanted[name].document["meta"]["models"],
            )
            assert told == known
            assert found[name].columns == wanted[name].columns


def one_document(results: Path) -> Any:
    document = dict(jobs_of(results)["both"].document)
    return {name: value for name, value in document.items() if name not in {"id", "columns"}}


@pytest.mark.parametrize("indent", [None, 2])
def test_a_single_document_is_one_job(results: Path, tmp_path: Path, indent: int | None) -> None:
    document = one_document(results)
    del document["verdict"]  # an older version wrote none
    (tmp_path / "one.json").write_text("\ufeff" + json.dumps(document, indent=indent), encoding="utf-8")
    (job,) = open_results(tmp_path / "one.json").jobs()
    assert (job.id, job.columns, len(job.pictures)) == ("fixed", {}, 2)
    assert write_table(tmp_path / "t.csv", open_results(tmp_path / "one.json")) == {"rows": 4, "jobs": 1}


def test_one_name_in_a_single_document_may_be_two_pictures(results: Path, tmp_path: Path) -> None:
    """A caller of the service may call every picture image.png."""
    document = one_document(results)
    document["contextual_images"][0]["path"] = document["generated_image"]["path"]
    (tmp_path / "one.json").write_text(json.dumps(document))
    export(tmp_path / "one.json", "coco", tmp_path / "coco.json")
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert [each["file_name"] for each in coco["images"]] == ["b/p.png", "b/p.png#2"]
    assert len(coco["annotations"]) == 4


def test_a_shard_by_itself_has_a_picture_once(own: Path, tmp_path: Path) -> None:
    for name in ("part-00000.jsonl", "part-00000.parquet"):
        export(own / name, "coco", tmp_path / "coco.json")
        coco = json.loads((tmp_path / "coco.json").read_text())
        assert sorted(each["file_name"] for each in coco["images"]) == ["a/p.png", "b/p.png", "c.png"]


def test_a_document_of_somebody_else_has_no_address_fetched(results: Path, tmp_path: Path) -> None:
    document = one_document(results)
    document["generated_image"]["path"] = "http://127.0.0.1:9/secret.png"
    (tmp_path / "one.json").write_text(json.dumps(document))
    (job,) = open_results(tmp_path / "one.json").jobs()
    assert [picture.source for picture in job.pictures] == ["a/p.png", None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("[]", "one.json:1: is not a result document, but list"),
        ("{", "is neither one JSON document nor one document on each line"),
        ('{"entities": []}', "one.json:1: is not a result document: prompt: Field required"),
        ('{"id": 1, "code": "timeout"}', "one.json:1: is not a result document: prompt"),
    ],
)
def test_what_is_no_result_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "one.json").write_text(text)
    with pytest.raises(OutputError) as error:
        list(open_results(tmp_path / "one.json").jobs())
    assert message in str(error.value)


def test_folders_and_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds no results of genseg batch"):
        open_results(tmp_path)
    with pytest.raises(OutputError, match="there is no such file or folder"):
        open_results(tmp_path / "none")
    (tmp_path / "one.json").write_text("{}")
    with pytest.raises(OutputError, match=r"--manifest .*only an output folder of a batch has a manifest"):
        open_results(tmp_path / "one.json", tmp_path / "one.json")


def test_the_error_of_a_document_is_a_job_that_failed(tmp_path: Path) -> None:
    error = {"code": "timeout", "message": "late", "field": None}
    (tmp_path / "lines.jsonl").write_text(json.dumps({"error": error}) + "\n" + json.dumps({"id": 7, **error}) + "\n")
    opened = open_results(tmp_path / "lines.jsonl")
    assert [*opened.jobs()] == []
    assert [each["code"] for each in opened.failures()] == ["timeout", "timeout"]


@pytest.mark.timeout(60)
def test_a_document_of_somebody_else_has_no_pipe_opened_and_no_odd_path_ends_the_report(
    results: Path, tmp_path: Path
) -> None:
    document = one_document(results)
    os.mkfifo(tmp_path / "pipe")
    document["contextual_images"][0]["path"] = "pipe"
    document["generated_image"]["path"] = "x" * 300 + ".png"
    (tmp_path / "one.json").write_text(json.dumps(document))
    assert export(tmp_path / "one.json", "html", tmp_path / "r.html") == 0
    text = (tmp_path / "r.html").read_text()
    assert "No picture: pipe is not a file" in text
    assert "No picture: xxx" in text


def test_the_manifest_of_another_batch_is_refused(own: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps({**row, "id": f"other {row['id']}"}) + "\n" for row in ROWS))
    with pytest.raises(OutputError, match=r"other\.jsonl: none of its rows has a result in "):
        export(own, "coco", tmp_path / "coco.json", "--manifest", other)
    assert not (tmp_path / "coco.json").exists()


@pytest.mark.parametrize("kind", ["table", "html", "coco", "coco-polygon", "yolo"])
def test_half_of_a_surrogate_pair_ends_no_export(results: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "one.json").write_text(json.dumps({**one_document(results), "id": "\ud800"}))
    output = tmp_path / ("out.csv" if kind == "table" else "out")
    assert export(tmp_path / "one.json", kind, output, "--no-pictures") == 0
    if kind.startswith("coco"):
        assert {each["job_id"] for each in json.loads(output.read_text())["annotations"]} == {"\ud800"}


def test_standard_output_is_no_file_called_minus(results: Path) -> None:
    with pytest.raises(CommandError, match="--output -: "):
        export(results, "coco", Path("-"))


def test_a_mask_that_is_malformed_is_named_and_leaves_the_old_file(results: Path, tmp_path: Path) -> None:
    document = one_document(results)
    document["generated_image"]["objects"][0]["mask_rle"]["counts"] = "000"
    (tmp_path / "one.json").write_text(json.dumps({**document, "id": "x"}))
    for kind, name in (("coco", "o.json"), ("coco-polygon", "o.json"), ("table", "o.csv")):
        (tmp_path / name).write_text("old")
        with pytest.raises(GensegError, match=r"job 'x'.*mask cannot be read"):
            export(tmp_path / "one.json", kind, tmp_path / name)
        assert (tmp_path / name).read_text() == "old"
    with pytest.raises(GensegError, match=r"job 'x'.*mask cannot be read"):
        export(tmp_path / "one.json", "yolo", tmp_path / "set")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("kind", ["coco", "coco-polygon", "yolo"])
def test_objects_without_masks_are_refused_by_formats_of_masks(results: Path, tmp_path: Path, kind: str) -> None:
    document = one_document(results)
    del document["generated_image"]["objects"][1]["mask_rle"]
    (tmp_path / "one.json").write_text(json.dumps(document))
    with pytest.raises(OutputError, match=r"generated_image, parts_0: has no mask \(mask_format none\)"):
        export(tmp_path / "one.json", kind, tmp_path / "out")


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("table", "t.txt", r"must end with \.csv or \.parquet"),
        ("coco", "out/summary.json", "the results have a file of that name"),
        ("table", "out/part-00007.csv", "the results have a file of that name"),
        ("coco", "rows.jsonl", "is one of the files to export; it would be overwritten"),
        ("coco", "out/part-00000.jsonl", "the results have a file of that name"),
        ("html", "out/.part-00001.jsonl.partial", "the results have a file of that name"),
        ("coco-polygon", "out/errors/part-00000.jsonl", "the results have a file of that name"),
        ("coco", "out/.genseg-batch/job.json", "the results have a file of that name"),
        ("html", "out", "is a folder"),
        ("coco", "none/coco.json", "there is no folder"),
        ("coco", "s3://bucket/coco.json", "must be a path"),
    ],
)
def test_outputs_that_cannot_be_are_refused(results: Path, kind: str, name: str, message: str) -> None:
    output = name if "://" in name else results.parent / name
    with pytest.raises(CommandError, match=message):
        export(results, kind, Path(output) if "://" not in name else name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["errors", ".genseg-batch"])
def test_an_output_in_the_place_of_a_folder_of_the_results_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="the results have a file of that name"):
        check_not_a_result("--coco", str(tmp_path / name), tmp_path.resolve())


def test_an_export_of_one_shard_does_not_overwrite_the_other_files_of_its_folder(results: Path) -> None:
    shard, errors = results / "part-00000.jsonl", results / "errors" / "part-00000.jsonl"
    before = shard.read_bytes(), errors.read_bytes()
    for output, message in ((shard, "the results have a file"), (errors, "the results have a file")):
        with pytest.raises(CommandError, match=message):
            export(shard, "html", output)
    assert (shard.read_bytes(), errors.read_bytes()) == before


def test_no_folder_of_an_earlier_version_is_refused(own: Path) -> None:
    state = own / ".genseg-batch" / "job.json"
    job = json.loads(state.read_text())
    del job["manifest"]
    state.write_text(json.dumps(job))
    assert open_results(own).notes == (
        "the folder does not record its manifest; give the manifest's path with --manifest",
    )
    shutil.rmtree(own / ".genseg-batch")
    assert {job.id for job in open_results(own).jobs()} == {"both", "=2", 3}


def test_every_format_is_tried_below() -> None:
    assert {kind for kind, _ in FORMATS} | {"coco-polygon"} == formats.FORMATS.keys()


FORMATS = [("table", "t.csv"), ("table", "t.parquet"), ("html", "r.html"), ("coco", "c.json"), ("yolo", "set")]


@pytest.mark.parametrize(
    "path", ["\ud800.png", "a" * 300 + ".png", "a/" * 3_000 + "b.png"], ids=["half", "long", "deep"]
)
@pytest.mark.parametrize(("kind", "name"), [*FORMATS, ("coco-polygon", "p.json")])
def test_names_that_no_file_can_have_are_exported(
    kind: str, name: str, path: str, results: Path, tmp_path: Path
) -> None:
    """A caller of the service may give any name, and JSON may hold half of a surrogate pair."""
    document = json.loads(json.dumps(jobs_of(results)["both"].document))
    document["generated_image"].update(path=path)
    document["entities"] += ["\ud800"]
    (tmp_path / "one.json").write_text(json.dumps({**document, "id": "\ud800"}))
    assert export(tmp_path / "one.json", kind, tmp_path / name, "--quiet") == 0
    if name.endswith(".json"):
        coco = json.loads((tmp_path / name).read_text())
        assert [each["file_name"] for each in coco["images"]] == ["a/p.png", path]
        assert coco["categories"][-1]["name"] == coco["images"][0]["job_id"] == "\ud800"


def test_a_shard_that_is_sealed_while_results_are_read_is_read(tmp_path: Path, results: Path) -> None:
    document = jobs_of(results)["both"].document.copy()
    del document["id"], document["columns"]  # type: ignore[typeddict-item]
    writer = ShardWriter(tmp_path, rows_per_shard=2)
    for number in range(3):
        writer.append(number, document)
    lines = readable_lines(tmp_path)
    keys = [next(lines).key]
    writer.append(3, document)  # this seals the shard
    assert keys + [line.key for line in lines] == ["0", "1", "2", "3"]
