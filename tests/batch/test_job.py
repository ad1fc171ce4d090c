"""Whole jobs with a fake segmenter: results, errors, continuing a job, and refusing folders of other jobs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from serve_app.batch.manifest import ManifestError
from serve_app.batch.output import OutputError
from serve_app.batch.patience import ServiceLost
from serve_app.cli import batch
from serve_app.cli.options import CommandError
from serve_app.errors import GensegError, InternalError, InvalidImage, TooManyRequests
from serve_app.schemas.dicts import ErrorDict, ResultDict
from serve_app.schemas.documents import ResultDocument
from serve_app.schemas.requests import SegmentRequest
from tests.batch.command import parsed
from tests.batch.dataset import FakeSegment, by_id, connecting, read_lines, row_of, write_dataset
from tests.documents import image


class Dataset:
    """A manifest of a few rows and the command on it."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.manifest = write_dataset(folder, rows)
        self.out = folder / "out"

    def run(self, segment: FakeSegment | None = None, *flags: Any) -> int:
        return batch.run_with(
            parsed(self.manifest, "--output", self.out, "--rows-per-shard", 4, *flags),
            connecting(segment or FakeSegment()),
        )

    @property
    def results(self) -> dict[str | int, dict[str, Any]]:
        return by_id(read_lines(self.out))

    @property
    def errors(self) -> dict[str | int, dict[str, Any]]:
        return by_id(read_lines(self.out / "errors"))

    @property
    def summary(self) -> dict[str, Any]:
        return dict(json.loads((self.out / "summary.json").read_text()))

    def rewrite(self, *rows: dict[str, Any]) -> None:
        self.manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(tmp_path, 10)


def failing(*numbers: int) -> FakeSegment:
    """Fails the rows of these numbers."""
    names = {f"images/g{number}.png" for number in numbers}

    def fail(request: SegmentRequest) -> GensegError | None:
        assert request.generated_image is not None
        return (
            InvalidImage("generated_image: no image", "generated_image")
            if request.generated_image.name in names
            else None
        )

    return FakeSegment(fail=fail)


def test_run_writes_a_document_for_every_row(dataset: Dataset) -> None:
    assert dataset.run() == 0
    assert set(dataset.results) == {f"row-{number}" for number in range(10)}
    for identifier, document in dataset.results.items():
        assert next(iter(document)) == "id"
        row = row_of(int(str(identifier).removeprefix("row-")))
        result = ResultDocument.model_validate({key: value for key, value in document.items() if key != "id"})
        assert [image.path for image in result.contextual_images] == row["contextual"]
        assert result.generated_image is not None
        assert result.generated_image.path == row["generated"]
    assert [len(path.read_text().splitlines()) for path in sorted(dataset.out.glob("part-*"))] == [4, 4, 2]
    assert dataset.summary.items() >= {
        "rows": 10, "done": 10, "failed": 0, "failed_by_code": {}, "left": 0, "images": 30, "objects": 60,
    }.items()  # fmt: skip
    assert dataset.summary["images_per_s"] > 0


def test_run_again_does_nothing(dataset: Dataset) -> None:
    dataset.run()
    before = dataset.results
    segment = FakeSegment()
    assert dataset.run(segment) == 0
    assert (segment.requests, dataset.results) == ([], before)
    assert dataset.summary["images"] == 30
    assert dataset.summary["objects"] == 60


def test_run_keeps_to_its_concurrency(dataset: Dataset) -> None:
    segment = FakeSegment(pause_s=0.01)
    dataset.run(segment, "--concurrency", 3)
    assert segment.most_at_work == 3


def test_run_keeps_errors_apart(dataset: Dataset, capfd: pytest.CaptureFixture[str]) -> None:
    (dataset.manifest.parent / "images" / "c7.png").unlink()
    assert dataset.run(failing(2)) == 1
    assert len(dataset.results) == 8
    assert dataset.errors["row-2"] == {
        "id": "row-2", "code": "invalid_image", "message": "generated_image: no image", "field": "generated_image",
    }  # fmt: skip
    assert dataset.errors["row-7"]["code"] == "fetch_failed"
    assert dataset.errors["row-7"]["message"] == "contextual_images[1]: images/c7.png: No such file or directory"
    assert dataset.summary["failed_by_code"] == {"invalid_image": 1, "fetch_failed": 1}
    assert f"2 rows failed (1 fetch_failed, 1 invalid_image): see {dataset.out}/errors" in capfd.readouterr().err


def test_run_keeps_other_columns_with_results_and_errors(dataset: Dataset) -> None:
    rows = [{**row_of(number), "seed": number, "group": "sdxl" if number else None} for number in range(4)]
    dataset.rewrite(*rows)
    assert dataset.run(failing(2)) == 1
    assert {key: line.get("columns") for key, line in dataset.results.items()} == {
        "row-0": {"seed": 0}, "row-1": {"seed": 1, "group": "sdxl"}, "row-3": {"seed": 3, "group": "sdxl"},
    }  # fmt: skip
    assert list(dataset.results["row-1"])[:3] == ["id", "columns", "prompt"]
    assert dataset.errors["row-2"]["columns"] == {"seed": 2, "group": "sdxl"}


def test_run_goes_on_where_only_other_columns_changed(dataset: Dataset) -> None:
    dataset.run()
    dataset.rewrite(*[{**row_of(number), "seed": number} for number in range(10)])
    segment = FakeSegment()
    assert dataset.run(segment) == 0
    assert segment.requests == []
    assert "columns" not in dataset.results["row-0"]


def test_run_shows_no_query_of_a_signed_address(
    dataset: Dataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither in results nor in errors, the COCO file, Parquet, the summary or on stderr."""
    signed = "http://me:SeCrEt@127.0.0.1:{port}/{name}?X-Amz-Signature=SeCrEt#SeCrEt"
    (tmp_path / "a.png").write_bytes(b"a")
    handler = partial(Silent, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_port
        rows = [
            {"id": name, "entities": ["dog"], "generated": signed.format(port=port, name=name), "contextual": ["a.png"]}
            for name in ("a.png", "none.png")
        ]
        dataset.rewrite(*rows)
        assert dataset.run(None, "--coco", dataset.out / "coco.json", "--format", "parquet") == 1
        server.shutdown()
    assert dataset.results["a.png"]["generated_image"]["path"] == f"http://127.0.0.1:{port}/a.png"
    assert dataset.errors["none.png"]["message"].endswith(
        f"http://127.0.0.1:{port}/none.png: the server answered with 404"
    )
    files = [path for path in dataset.out.rglob("*") if path.is_file()]
    assert len(files) >= 6
    assert [path for path in files if b"SeCrEt" in path.read_bytes()] == []
    assert "SeCrEt" not in capfd.readouterr().err


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_run_leaves_failed_rows_until_it_is_told_to_retry(dataset: Dataset) -> None:
    dataset.run(failing(2, 3))
    segment = failing(3)
    assert dataset.run(segment) == 1
    assert segment.requests == []
    assert dataset.run(segment, "--retry-errors") == 1
    assert len(segment.requests) == 2
    assert set(dataset.errors) == {"row-3"}
    assert len(dataset.results) == 9
    assert dataset.run(None, "--retry-errors") == 0
    assert dataset.errors == {}
    assert len(dataset.results) == 10


def test_run_counts_a_row_with_a_failed_image_as_failed(dataset: Dataset) -> None:
    class HalfFailing(FakeSegment):
        async def __call__(self, request: SegmentRequest) -> ResultDict:
            document = await super().__call__(request)
            field = "contextual_images[1]"
            error: ErrorDict = {"code": "internal", "message": f"{field}: lost", "field": field}
            document["contextual_images"][1] = image("lost.png", None, error=error)
            return document

    assert dataset.run(HalfFailing()) == 1
    assert dataset.results == {}
    assert dataset.errors["row-0"]["message"] == "contextual_images[1]: lost"


def test_run_waits_for_a_full_service(dataset: Dataset) -> None:
    refused: set[str | None] = set()

    def full_once(request: SegmentRequest) -> GensegError | None:
        assert request.generated_image is not None
        name = request.generated_image.name
        if name in refused:
            return None
        refused.add(name)
        error = TooManyRequests("full")
        error.retry_after_s = 0.01
        return error

    segment = FakeSegment(fail=full_once)
    assert dataset.run(segment) == 0
    assert (len(segment.requests), len(dataset.results)) == (20, 10)


@pytest.mark.parametrize(
    ("error", "code"), [(ServiceLost("gone"), None), (InternalError("one row"), "internal")], ids=["lost", "row"]
)
def test_run_ends_only_when_the_service_is_lost(dataset: Dataset, error: GensegError, code: str | None) -> None:
    segment = FakeSegment(fail=lambda request: error if request.prompt == "dog sofa1" else None)
    with contextlib.nullcontext() if code else pytest.raises(ServiceLost):
        assert dataset.run(segment, "--concurrency", 1) == 1
    assert {line["code"] for line in dataset.errors.values()} == ({code} if code else set())
    assert dataset.run(None, "--retry-errors") == 0
    assert len(dataset.results) == 10


def test_run_does_rows_that_were_added(dataset: Dataset) -> None:
    dataset.run()
    write_dataset(dataset.manifest.parent, 3, start=10)
    segment = FakeSegment()
    assert dataset.run(segment) == 0
    assert (len(segment.requests), len(dataset.results)) == (3, 13)


def test_run_does_a_failed_row_again_that_was_corrected(dataset: Dataset) -> None:
    dataset.run(failing(4, 5))
    rows = [row_of(number) for number in range(10)]
    rows[4]["generated"] = "images/g3.png"
    dataset.rewrite(*rows[:5], *rows[6:])
    assert dataset.run() == 0
    assert dataset.results["row-4"]["generated_image"]["path"] == "images/g3.png"
    assert dataset.errors == {}
    assert dataset.summary["rows"] == 9


def test_run_refuses_rows_that_changed(dataset: Dataset) -> None:
    dataset.run()
    rows = [row_of(number) for number in range(10)]
    rows[6]["prompt"] = "another prompt"
    dataset.rewrite(*rows)
    with pytest.raises(OutputError, match=r"out: was made with other rows: .*: line 7 \(id 'row-6'\) changed"):
        dataset.run()
    assert len(dataset.results) == 10


def test_run_refuses_a_manifest_that_lacks_rows(dataset: Dataset) -> None:
    dataset.run()
    dataset.rewrite(row_of(0), row_of(11))
    with pytest.raises(OutputError, match=r"out: holds results of 9 rows, such as 'row-\d'"):
        dataset.run()


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        (
            ["--threshold", "0.4"],
            ["--threshold", "0.3"],
            "with --threshold 0.4, but now it is 0.3; choose another folder",
        ),
        ([], ["--mask-threshold", "0.0"], "without --mask-threshold, but now it is 0.0"),
        (["--standalone"], ["--config", "{}"], "with segmentation.threshold: 0.5, but now it is 0.25"),
    ],
    ids=["changed", "new", "config"],
)
def test_run_refuses_other_settings(
    dataset: Dataset, tmp_path: Path, before: list[str], now: list[str], message: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("segmentation: {threshold: 0.25}\n")
    dataset.run(None, *before)
    with pytest.raises(OutputError, match=message):
        dataset.run(None, *(flag.format(config) for flag in now))


def test_run_refuses_results_of_other_models(dataset: Dataset) -> None:
    dataset.run()
    write_dataset(dataset.manifest.parent, 1, start=10)
    segment = FakeSegment()
    segment.models = {"text_parser": "fake-parser", "segmentation": "another"}
    with pytest.raises(OutputError, match=r"holds results of fake-parser, fake-segmenter, but .* fake-parser, another"):
        dataset.run(segment)
    assert len(dataset.results) == 10


def test_run_passes_thresholds_on_to_rows_that_name_none(dataset: Dataset) -> None:
    dataset.rewrite(row_of(0), {**row_of(1), "threshold": 0.0})
    segment = FakeSegment()
    dataset.run(segment, "--threshold", "0.4")
    assert sorted(request.threshold or 0.0 for request in segment.requests) == [0.0, 0.4]


def test_run_lists_thresholds_that_a_row_has_no_use_for(dataset: Dataset) -> None:
    dataset.rewrite(
        {"id": "a", "entities": ["Dog"], "generated": "images/g0.png", "thresholds": {"dog": 0.3, "cat": 0.4}}
    )
    segment = FakeSegment()
    assert dataset.run(segment) == 0
    assert [request.thresholds for request in segment.requests] == [{"dog": 0.3}]
    assert dataset.results["a"]["meta"]["unused_thresholds"] == ["cat"]


def test_run_passes_options_on_to_rows_that_name_none(dataset: Dataset) -> None:
    own = {"mask_format": "rle", "overlays": False, "timeout_s": 5, "mask_threshold": 0.0}
    dataset.rewrite(row_of(0), {**row_of(1), **own})
    segment = FakeSegment()
    flags = ["--mask-format", "polygon", "--overlays", "--timeout", "7", "--mask-threshold", "0.3"]
    assert dataset.run(segment, *flags) == 0
    first, second = sorted(segment.requests, key=lambda request: request.timeout_s or 0.0)
    assert first.given() == own
    assert second.given() == {"mask_format": "polygon", "overlays": True, "timeout_s": 7.0, "mask_threshold": 0.3}


def test_run_waits_a_day_for_rows_that_name_no_timeout(dataset: Dataset) -> None:
    segment = FakeSegment()
    dataset.run(segment)
    assert {request.timeout_s for request in segment.requests} == {86400.0}


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ([], ["--mask-format", "polygon"], "without --mask-format, but now it is polygon"),
        (["--mask-format", "polygon"], [], "with --mask-format polygon, but now it is not given"),
        (["--overlays"], [], "with --overlays, but now it is not given"),
    ],
    ids=["new", "gone", "overlays"],
)
def test_run_refuses_other_options(dataset: Dataset, before: list[str], now: list[str], message: str) -> None:
    dataset.run(None, *before)
    with pytest.raises(OutputError, match=message):
        dataset.run(None, *now)


@pytest.mark.parametrize(("before", "now"), [([], ["--mask-format", "rle"]), (["--mask-format", "rle"], [])])
def test_run_takes_the_default_that_is_named_for_the_default(
    dataset: Dataset, before: list[str], now: list[str]
) -> None:
    dataset.run(None, *before)
    assert dataset.run(None, *now) == 0


def test_run_counts_a_setting_that_the_folder_does_not_record_as_its_default(dataset: Dataset, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("entity_filter: {excluded_terms: [fog]}\n")
    dataset.run(None, "--standalone")
    path = dataset.out / ".genseg-batch" / "job.json"
    job = json.loads(path.read_text())
    del job["settings"]["entity_filter.excluded_terms"]
    path.write_text(json.dumps(job))
    message = (
        r"with entity_filter\.excluded_terms: \[.*\] \(the default, because the folder does not record it\), "
        r'but now it is \["fog"\]'
    )
    with pytest.raises(OutputError, match=message):
        dataset.run(None, "--config", config)
    assert dataset.run(None, "--standalone") == 0
    assert json.loads(path.read_text())["settings"].keys() > job["settings"].keys()


def test_run_knows_the_models_of_results_of_a_running_service(dataset: Dataset, tmp_path: Path) -> None:
    """Such a service does not tell its configuration."""
    config = tmp_path / "config.yaml"
    config.write_text("models: {text_parser: {model_name: fake-parser}, segmentation: {model_name: fake-segmenter}}\n")
    dataset.run()
    assert dataset.run(None, "--config", config) == 0
    config.write_text("models: {text_parser: {model_name: fake-parser}, segmentation: {model_name: other}}\n")
    with pytest.raises(
        OutputError, match=r"with models\.segmentation\.model_name: fake-segmenter, but now it is other"
    ):
        dataset.run(None, "--config", config)


def test_run_goes_on_in_a_folder_of_an_earlier_version(dataset: Dataset) -> None:
    """That version recorded two flags. A different timeout changes no result, so the job continues."""
    dataset.run(failing(3))
    path = dataset.out / ".genseg-batch" / "job.json"
    assert json.loads(path.read_text())["settings"] == {"--threshold": None, "--mask-threshold": None}
    assert dataset.run(None, "--timeout", "9", "--retry-errors") == 0


def test_run_refuses_a_folder_that_another_job_writes_to(dataset: Dataset) -> None:
    dataset.run()
    with (dataset.out / ".genseg-batch" / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="out: another job writes there"):
            dataset.run()
    assert dataset.run() == 0


def test_run_refuses_a_folder_with_shards_of_something_else(dataset: Dataset) -> None:
    dataset.out.mkdir()
    (dataset.out / "part-00000.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(OutputError, match="holds shards of something else"):
        dataset.run()


def test_run_checks_the_manifest_before_anything_starts(dataset: Dataset) -> None:
    dataset.rewrite(row_of(0), {**row_of(1), "promt": "x"})
    with pytest.raises(ManifestError, match="unknown field 'promt'"):
        batch.run_with(parsed(dataset.manifest, "--output", dataset.out), lambda *_: pytest.fail("started"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.jsonl", "--output", "{out}"], "none.jsonl: there is no such file"),
        (["{folder}", "--output", "{out}"], "{folder}: a folder; MANIFEST is one file: JSONL, JSON, CSV or Parquet"),
        (["https://x/rows?sig=1", "--output", "{out}"], "MANIFEST https://x/rows: must be a path"),
        (["{manifest}", "--output", "s3://bucket/out"], "--output s3://bucket/out: must be a path"),
        (["{manifest}", "--output", "{out}", "--coco", "none/coco.json"], "--coco none/coco.json: there is no folder"),
        (["{manifest}", "--output", "{out}", "--coco", "{folder}"], "--coco {folder}: is a folder"),
        (["{manifest}", "--output", "{out}", "--coco", "{manifest}/c"], "--coco {manifest}/c: there is no folder"),
        (["{manifest}", "--output", "{out}", "--coco", "{manifest}"], "is the manifest; it would be overwritten"),
        (["{manifest}", "--output", "{out}", "--coco", "{out}/summary.json"], "the results have a file of that name"),
        (
            ["{manifest}", "--output", "{out}", "--coco", "{out}/part-00000.jsonl"],
            "the results have a file of that name",
        ),
        (
            ["{manifest}", "--output", "{out}", "--coco", "coco.json", "--mask-format", "none"],
            "--coco coco.json: needs masks as RLE, not --mask-format none",
        ),
    ],
)
def test_run_refuses_paths_that_cannot_be(dataset: Dataset, arguments: list[str], message: str) -> None:
    names = {"manifest": dataset.manifest, "out": dataset.out, "folder": dataset.manifest.parent}
    with pytest.raises(CommandError, match=re.escape(message.format(**names))):
        batch.run_with(parsed(*(text.format(**names) for text in arguments)), lambda *_: pytest.fail("started"))
    assert not dataset.out.exists()


@pytest.mark.parametrize(
    ("below", "message"), [("", "is a file, not a folder"), ("/deeper/down", "{file} is a file, not a folder")]
)
def test_run_names_the_file_that_stands_where_the_output_should(
    dataset: Dataset, tmp_path: Path, below: str, message: str
) -> None:
    file = tmp_path / "afile"
    file.write_text("")
    args = parsed(dataset.manifest, "--output", f"{file}{below}")
    with pytest.raises(CommandError, match=f"^--output {file}{below}: {message.format(file=file)}$"):
        batch.run_with(args, lambda *_: pytest.fail("started"))


@pytest.mark.parametrize("place", ["coco.json", "for/training/coco.json"])
def test_run_writes_the_coco_file_into_an_output_folder_that_is_not_there_yet(dataset: Dataset, place: str) -> None:
    assert dataset.run(None, "--coco", dataset.out / place) == 0
    assert len(json.loads((dataset.out / place).read_text())["images"]) == 21
    assert dataset.run(None, "--coco", dataset.out / place) == 0


def test_run_names_more_wrong_rows_than_a_screen_holds_in_a_file(dataset: Dataset) -> None:
    good = [row_of(number) for number in range(3)]
    dataset.rewrite(*good, *({"id": number} for number in range(30)))
    with pytest.raises(ManifestError, match=rf"10 more rows are wrong; {dataset.out}/wrong-rows\.txt names all 30$"):
        dataset.run()
    assert len((dataset.out / "wrong-rows.txt").read_text().splitlines()) == 30
    dataset.rewrite(*good)
    assert dataset.run() == 0
    assert not (dataset.out / "wrong-rows.txt").exists()


@pytest.mark.parametrize("given", ["-", "/dev/stdin", "pipe"])
def test_run_reads_a_manifest_through_a_pipe(tmp_path: Path, given: str) -> None:
    """A pipe can be read only once, and its relative paths start from the current folder."""
    manifest = write_dataset(tmp_path, 3)
    if given == "pipe":
        given = str(tmp_path / "pipe")
        os.mkfifo(given)
        threading.Thread(target=lambda: Path(given).write_bytes(manifest.read_bytes()), daemon=True).start()
    command = [sys.executable, "-m", "tests.batch.command", "0", given, "--output", "out", "--coco", "out/coco.json"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    def run(text: bytes) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, cwd=tmp_path, env=environment, input=text, capture_output=True, timeout=60)

    done = run(manifest.read_bytes())
    assert done.returncode == 0, done.stderr.decode()
    assert len(by_id(read_lines(tmp_path / "out"))) == 3
    assert (tmp_path / "out" / "coco.json").is_file()
    if given == "-":
        assert b"3 of 3 rows done" in run(manifest.read_bytes()).stderr
        assert b"standard input:1: not a JSON object" in run(b"{\n").stderr
        assert b"standard input: the manifest has no rows" in run(b"").stderr


@contextlib.contextmanager
def signalled(number: signal.Signals, after_s: float) -> Iterator[None]:
    timer = threading.Timer(after_s, os.kill, (os.getpid(), number))
    timer.start()
    yield
    timer.join()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_stops_on_a_signal_and_keeps_what_is_done(
    dataset: Dataset, number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    class Stuck(FakeSegment):
        async def __call__(self, request: SegmentRequest) -> ResultDict:
            self.pause_s = 60.0 if len(self.requests) >= 5 else 0.0
            return await super().__call__(request)

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    started = time.monotonic()
    with signalled(number, 0.5):
        assert dataset.run(Stuck(), "--concurrency", 2) == 1
    assert time.monotonic() - started < 10
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert len(dataset.results) == 5
    assert dataset.summary["left"] == 5
    assert "stopped with 5 rows left; run the same command again to continue" in capfd.readouterr().err
    again = FakeSegment()
    assert dataset.run(again) == 0
    assert (len(again.requests), len(dataset.results)) == (5, 10)


def test_run_prints_nothing_when_quiet(dataset: Dataset, capfd: pytest.CaptureFixture[str]) -> None:
    dataset.run(None, "--quiet")
    assert capfd.readouterr() == ("", "")
