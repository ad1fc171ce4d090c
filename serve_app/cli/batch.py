"""`genseg batch`: processes a dataset, the rows of a manifest. A job that was stopped can be continued.

genseg batch rows.jsonl --output results                     on a running service, else on the job's own models
genseg batch rows.jsonl --output results --standalone        on the job's own models
make_rows | genseg batch - --output results                  rows from another program
ray job submit --address http://HEAD:8265 -- genseg batch /data/rows.jsonl --output /data/results
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from serve_app.batch import parquet, verdict_rows
from serve_app.batch.exports.coco import write_coco
from serve_app.batch.exports.jobs import job_of_row
from serve_app.batch.job import Job, run_job
from serve_app.batch.manifest import read_rows
from serve_app.batch.output import OutputFolder, Summary, open_output
from serve_app.batch.patience import Patient, Segment
from serve_app.batch.plan import Plan, make_plan
from serve_app.batch.progress import Meter
from serve_app.batch.sources import SourceReader
from serve_app.cli import request_flags
from serve_app.cli.batch_paths import ManifestFile, check_paths, opened_manifest
from serve_app.cli.batch_settings import config_settings, options_of, settings_of
from serve_app.cli.console import Progress
from serve_app.cli.job_progress import JobProgress
from serve_app.cli.options import CommandError, at_least_one
from serve_app.config.files import LoadedConfig, load_file
from serve_app.config.schema import AppConfig
from serve_app.schemas.counted import counted

DEFAULT_CONCURRENCY = 32
DEFAULT_ROWS_PER_SHARD = 1000
TIMEOUT_DEFAULT = "Default: as long as the service allows."
ROW_ONLY = frozenset({"entities", "thresholds"})
"""Options that only a row can set, not a flag. With `entities` for all rows, no prompt would be read. `thresholds`
belong to entities, which differ from row to row."""

Connect = Callable[[argparse.Namespace, LoadedConfig, Progress], AbstractContextManager[Segment]]
"""Yields a function that segments one row, while a block runs; see `graph`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "manifest",
        metavar="MANIFEST",
        help="The dataset, one request per row: JSONL, JSON, CSV or Parquet; - is standard input.",
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="DIR", help="Folder for the results, the errors and the summary."
    )
    parser.add_argument(
        "--format",
        choices=["jsonl", "parquet"],
        default="jsonl",
        help="Format of the results. parquet writes Parquet files in addition to the JSONL files.",
    )
    parser.add_argument("--coco", metavar="FILE", help="Also write all results as one COCO instances file.")
    parser.add_argument("--retry-errors", action="store_true", help="Process failed rows again.")
    parser.add_argument(
        "--concurrency",
        type=at_least_one,
        default=DEFAULT_CONCURRENCY,
        metavar="N",
        help="Process at most N rows at the same time.",
    )
    parser.add_argument(
        "--rows-per-shard",
        type=at_least_one,
        default=DEFAULT_ROWS_PER_SHARD,
        metavar="N",
        help="Write at most N results into one file.",
    )
    parser.add_argument("--quiet", action="store_true", help="Print only errors.")
    options = request_flags.add_flags(
        parser, "options of the request, for rows that do not set them", ROW_ONLY, {"timeout_s": TIMEOUT_DEFAULT}
    )
    options.add_argument("--outline", action="store_true", help="Short for --overlay-style outline.")
    _add_graph_flags(parser)


def _add_graph_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("a running service, or the job's own models")
    group.add_argument(
        "--address",
        metavar="RAY",
        help="The Ray cluster of the service, HOST:PORT. Default: RAY_ADDRESS, or a cluster on this machine.",
    )
    group.add_argument("--app", default="segmentation", metavar="NAME", help="Name of the Serve application to use.")
    group.add_argument(
        "--standalone", action="store_true", help="Start the job's own models, even if the application runs."
    )
    group.add_argument(
        "--config",
        metavar="FILE",
        help="Configuration file (YAML) for the job's own models, and for the limits on images. Default: the embedded "
        "models.",
    )


def run(args: argparse.Namespace) -> int:
    """Run the job.

    Returns:
        The exit code: 1 if rows failed or were not processed.

    Raises:
        GensegError, CommandError: with one line for the user.
    """
    return run_with(args, graph)


def run_with(args: argparse.Namespace, connect: Connect) -> int:
    """Run the job with the function that `connect` yields; see `run`.

    Args:
        args: the flags.
        connect: connects to a running service, or starts an application.
    """
    loaded = load_file(args.config) if args.config else LoadedConfig(AppConfig(), None)
    check_paths(args.manifest, args.output, args.coco)
    if args.coco and args.mask_format not in {None, "rle"}:
        raise CommandError(f"--coco {args.coco}: needs masks as RLE, not --mask-format {args.mask_format}", usage=True)
    if args.outline and args.overlay_style == "fill":
        raise CommandError("--outline: contradicts --overlay-style fill", usage=True)
    with opened_manifest(args.manifest) as manifest:
        if args.format == "parquet":
            parquet.load_pyarrow()
        return _run_rows(args, loaded, manifest, connect)


def _run_rows(args: argparse.Namespace, loaded: LoadedConfig, manifest: ManifestFile, connect: Connect) -> int:
    progress = Progress(args.quiet)
    settings, defaults = settings_of(args, loaded.app), config_settings(AppConfig())
    with open_output(Path(args.output), args.rows_per_shard) as output:
        plan = make_plan(
            manifest.path,
            output,
            settings,
            args.retry_errors,
            defaults=defaults,
            name=manifest.name,
            recorded=manifest.recorded,
        )
        if args.coco and plan.mask_formats - {"rle"}:
            raise CommandError(
                f"--coco {args.coco}: needs masks as RLE, but rows of {plan.name} ask for another format"
            )
        meter = Meter(plan.left, plan.rows - plan.left)
        finished = True
        if plan.left:
            progress.say(f"{plan.rows - plan.left} of {plan.rows} rows are done; {plan.left} to do")
            with connect(args, loaded, progress) as segment:
                meter = Meter(plan.left, plan.rows - plan.left)  # without the time that loading the models took
                reader = SourceReader(manifest.folder, loaded.app.limits.max_image_bytes)
                finished = _work(args, reader, plan, output, segment, meter, progress)
        else:
            meter.stop()
        output.finish()
        if finished:
            _write_further(args, plan, manifest.folder, output, progress)
        return _conclude(plan, output, meter, progress)


@contextmanager
def graph(args: argparse.Namespace, loaded: LoadedConfig, progress: Progress) -> Iterator[Segment]:
    """Yield a function that segments rows on a running service, or on an application that runs while the block runs."""
    from serve_app.batch.service import HandleSegment
    from serve_app.cli.cluster import job_graph

    previous = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        with job_graph(loaded, progress, address=args.address, app_name=args.app, standalone=args.standalone) as handle:
            yield HandleSegment(handle)
    finally:
        # The end of `job_graph` ignores signals. The files that are written next may be interrupted again.
        for number, handler in previous:
            signal.signal(number, handler)


def _work(
    args: argparse.Namespace,
    reader: SourceReader,
    plan: Plan,
    output: OutputFolder,
    segment: Segment,
    meter: Meter,
    progress: Progress,
) -> bool:
    defaults = options_of(args)
    try:
        job = Job(output, reader, Patient(segment), defaults, meter, JobProgress(progress))
        return run_job(job, plan, args.concurrency)
    finally:
        reader.close()


def _write_further(
    args: argparse.Namespace, plan: Plan, folder: Path, output: OutputFolder, progress: Progress
) -> None:
    if args.verdict or output.verdicts.rows:
        path = output.folder / verdict_rows.FILE_NAME
        rows = (placed.row for placed in read_rows(plan.manifest, plan.name))
        written = verdict_rows.write_verdicts(path, (document for _, document in output.results(rows)))
        entities, references = counted(written.entities, "entities"), counted(written.references, "references")
        progress.say(f"wrote {path}: {entities}, {references}")
    if args.format == "parquet":
        progress.say(f"wrote {parquet.write_missing(output.folder)} Parquet files")
    if args.coco:
        rows = (placed.row for placed in read_rows(plan.manifest, plan.name))
        path = Path(args.coco)
        path.parent.mkdir(parents=True, exist_ok=True)
        counts = write_coco(path, (job_of_row(row, result, folder) for row, result in output.results(rows)))
        progress.say(f"wrote {args.coco}: " + ", ".join(counted(count, name) for name, count in counts.items()))


def _conclude(plan: Plan, output: OutputFolder, meter: Meter, progress: Progress) -> int:
    """Write the summary, report how the job went, and return the exit code."""
    failed = len(output.failed)
    left = plan.rows - len(output.done) - failed
    summary: Summary = {
        "rows": plan.rows,
        "done": len(output.done),
        "failed": failed,
        "failed_by_code": output.codes(),
        "left": left,
        "images": output.images,
        "objects": output.objects,
        "verdict": output.verdicts.summary(),
        "images_per_s": round(meter.images_per_s, 3),
        "seconds": round(meter.seconds, 3),
    }
    path = output.write_summary(summary)
    found = f"{counted(output.images, 'images')}, {counted(output.objects, 'objects')}"
    done = f"{len(output.done)} of {plan.rows} rows done, {found}"
    if output.verdicts.rows:
        done += f", everything arrived in {output.verdicts.arrived} of {output.verdicts.judged} judged rows"
    progress.say(f"{done}: {path}")
    if left:
        print(
            f"genseg: stopped with {counted(left, 'rows')} left; run the same command again to continue",
            file=sys.stderr,
        )
    if failed:
        codes = ", ".join(f"{count} {code}" for code, count in output.codes().items())
        where = output.folder / "errors"
        print(
            f"genseg: {counted(failed, 'rows')} failed ({codes}): see {where}; --retry-errors processes them again",
            file=sys.stderr,
        )
    return 1 if failed or left else 0
