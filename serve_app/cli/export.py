"""`genseg export`: writes results in the formats of other tools.

genseg export results --format table --output results.csv       one row per manifest row, image and entity; or .parquet
genseg export results --format html --output report.html        one file, with pictures
genseg export results --format yolo --output dataset            a folder: data.yaml, labels/, images/
genseg export segmentation.json --format coco --output coco.json    one document
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from serve_app.batch.exports.formats import FORMATS, ExportFormat, Means
from serve_app.batch.exports.reading import Results, open_results
from serve_app.batch.exports.report import MAX_PICTURES
from serve_app.batch.exports.yolo import is_replaceable
from serve_app.batch.output import STATE
from serve_app.batch.source_names import scheme_of, shown
from serve_app.cli.batch_paths import check_not_a_result
from serve_app.cli.console import Progress
from serve_app.cli.export_pictures import FilePictures
from serve_app.cli.options import CommandError, at_least_one
from serve_app.cli.outputs import STANDARD_OUTPUT, check_file, check_folder
from serve_app.config.schema import AppConfig
from serve_app.schemas.counted import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "results",
        metavar="RESULTS",
        help="Output folder of genseg batch, JSON file of genseg run, or one shard (JSONL or Parquet).",
    )
    formats = "; ".join(f"{name}: {each.about}" for name, each in FORMATS.items())
    parser.add_argument("--format", required=True, choices=[*FORMATS], help=f"The format. {formats}.")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="PATH",
        help="The file, or the folder for yolo. A table's ending, .csv or .parquet, chooses the format of the table.",
    )
    parser.add_argument("--manifest", metavar="FILE", help="The batch's manifest, if it was moved.")
    parser.add_argument(
        "--max-pictures",
        type=at_least_one,
        default=MAX_PICTURES,
        metavar="N",
        help="Put at most N pictures into an HTML report.",
    )
    parser.add_argument(
        "--no-pictures", action="store_true", help="Leave out the pictures (html: not drawn; yolo: not copied)."
    )
    parser.add_argument("--quiet", action="store_true", help="Print only errors.")


def run(args: argparse.Namespace) -> int:
    """Write the export.

    Raises:
        GensegError, CommandError: with one line for the user.
    """
    chosen = FORMATS[args.format]
    progress = Progress(args.quiet)
    for flag, value in (("RESULTS", args.results), ("--output", args.output), ("--manifest", args.manifest)):
        if value and scheme_of(value):
            raise CommandError(f"{flag} {shown(value)}: must be a path", usage=True)
    if args.output == STANDARD_OUTPUT:
        raise CommandError(
            "--output -: name a file or a folder; an export is not written to standard output", usage=True
        )
    results = open_results(Path(args.results), Path(args.manifest) if args.manifest else None)
    _check_output(args.output, chosen, results)
    if not args.quiet and chosen.uses_pictures and not args.no_pictures:
        for note in results.notes:
            progress.say(f"{note}; pictures are read from the paths in the results")
    pictures = FilePictures(results.folder, AppConfig().limits)
    try:
        counts = chosen.write(
            Path(args.output), results, Means(None if args.no_pictures else pictures, args.max_pictures)
        )
    finally:
        pictures.close()
    written = [counted(count, name) for index, (name, count) in enumerate(counts.items()) if count or index == 0]
    progress.say(f"wrote {args.output}: {', '.join(written)}")
    _say_failures(results, progress)
    return 0


def _check_output(given: str, chosen: ExportFormat, results: Results) -> None:
    output, source = Path(given), Path(results.name)
    if chosen.endings and output.suffix.lower() not in chosen.endings:
        raise CommandError(f"--output {given}: must end with {' or '.join(chosen.endings)}", usage=True)
    if chosen.is_folder:
        check_folder("--output", output)
        if output.resolve() == source.resolve() or not is_replaceable(output):
            raise CommandError(f"--output {given}: holds other files; choose a new or an empty folder")
        return
    check_file("--output", output)
    folder = source.resolve() if source.is_dir() else source.resolve().parent
    if source.is_dir() or (folder / STATE).is_dir():  # a shard may be exported alone
        check_not_a_result("--output", given, folder)
    _check_inputs(given, results.files)


def _check_inputs(given: str, files: Sequence[Path]) -> None:
    output = Path(given)
    if output.exists() and any(output.samefile(each) for each in files):
        raise CommandError(f"--output {given}: is one of the files to export; it would be overwritten")


def _say_failures(results: Results, progress: Progress) -> None:
    failed = sum(1 for _ in results.failures())
    if failed:
        verb = "job failed and has" if failed == 1 else "jobs failed and have"
        progress.say(
            f"{failed} {verb} no results: see {results.name}{'/errors' if Path(results.name).is_dir() else ''}"
        )
