"""`genseg batch`: a whole dataset through the graph, resumable at any moment.

genseg batch rows.jsonl --output results                     a running service of a cluster, else models of its own
genseg batch rows.jsonl --output results --standalone        models of its own, for the job's life
make_rows | genseg batch - --output results                  rows from another program
ray job submit --address http://HEAD:8265 -- genseg batch /data/rows.jsonl --output /data/results
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from serve_app.batch import parquet, verdict_rows
from serve_app.batch.exports.coco import write_coco
from serve_app.batch.exports.jobs import job_of_row
from serve_app.batch.fingerprint import Setting
from serve_app.batch.job import Job, run_job
from serve_app.batch.manifest import read_rows
from serve_app.batch.output import OutputFolder, Summary, open_output
from serve_app.batch.patience import Patient, Segment
from serve_app.batch.plan import Plan, make_plan
from serve_app.batch.progress import Meter
from serve_app.batch.sources import SourceReader
from serve_app.cli import request_flags
from serve_app.cli.batch_paths import ManifestFile, check_paths, opened_manifest
from serve_app.cli.console import Progress
from serve_app.cli.job_progress import JobProgress
from serve_app.cli.options import CommandError, at_least_one
from serve_app.config.files import LoadedConfig, load_file
from serve_app.config.schema import AppConfig
from serve_app.schemas.requests import OptionArguments, RequestOptions

DEFAULT_CONCURRENCY = 32
DEFAULT_ROWS_PER_SHARD = 1000
ROW_ONLY = frozenset({"entities", "thresholds"})
"""Options that only a row has: `entities` of all rows would leave every prompt unused, and `thresholds` name entities,
which differ from row to row."""
NOT_OF_RESULTS = frozenset({"timeout_s"})
"""Options that change when a row fails, but no result."""
OF_RESULTS = (
    "models.text_parser.engine",
    "models.text_parser.model_name",
    "models.segmentation.engine",
    "models.segmentation.model_name",
    "models.segmentation.head_dtype",
    "models.identity.model_name",
    "models.identity.threshold",
    "segmentation",
    "entity_filter",
)
"""Keys and sections of a configuration that decide about results. A folder records them, as far as there are any."""
ALWAYS_RECORDED = frozenset({"threshold", "mask_threshold"})
"""Recorded as null where they are not given, as folders of earlier versions have them."""

Connect = Callable[[argparse.Namespace, LoadedConfig, Progress], AbstractContextManager[Segment]]
"""Connects a job to who does its rows, for as long as a block runs; see `graph`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("manifest", metavar="MANIFEST", help="one job a row: JSONL, JSON, CSV or Parquet; - is stdin")
    parser.add_argument("--output", "-o", required=True, metavar="DIR", help="where results, errors and summary go")
    parser.add_argument("--config", metavar="FILE", help="configuration of models of its own, and the image limits")
    parser.add_argument("--standalone", action="store_true", help="models of its own, even where a service runs")
    parser.add_argument("--address", metavar="RAY", help="Ray cluster (default: RAY_ADDRESS, or one found here)")
    parser.add_argument(
        "--app", default="segmentation", metavar="NAME", help="the running Serve application (default: segmentation)"
    )
    parser.add_argument(
        "--concurrency",
        type=at_least_one,
        default=DEFAULT_CONCURRENCY,
        metavar="N",
        help=f"rows at work (default: {DEFAULT_CONCURRENCY})",
    )
    parser.add_argument(
        "--format", choices=["jsonl", "parquet"], default="jsonl", help="parquet: besides the JSONL (default: jsonl)"
    )
    parser.add_argument("--coco", metavar="FILE", help="also write all results as one COCO instances file")
    parser.add_argument("--retry-errors", action="store_true", help="do the rows again that failed")
    parser.add_argument(
        "--rows-per-shard",
        type=at_least_one,
        default=DEFAULT_ROWS_PER_SHARD,
        metavar="N",
        help=f"results in a file (default: {DEFAULT_ROWS_PER_SHARD})",
    )
    parser.add_argument("--outline", action="store_true", help="the same as --overlay-style outline")
    parser.add_argument("--quiet", action="store_true", help="only errors on stderr")
    request_flags.add_flags(
        parser,
        "options of the requests, for rows that name none; without --timeout a row waits as long as the service allows",
        ROW_ONLY,
    )


def run(args: argparse.Namespace) -> int:
    """Do the job.

    Raises:
        GensegError, CommandError: one line for the user.
    """
    return run_with(args, graph)


def run_with(args: argparse.Namespace, connect: Connect) -> int:
    """Do the job on whatever `connect` connects to.

    Args:
        args: the flags.
        connect: finds or starts it.
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
                meter = Meter(plan.left, plan.rows - plan.left)  # the start of the models does not count
                reader = SourceReader(manifest.folder, loaded.app.limits.max_image_bytes)
                finished = _work(args, reader, plan, output, segment, meter, progress)
        else:
            meter.stop()
        output.finish()
        if finished:
            _write_further(args, plan, manifest.folder, output, progress)
        return _conclude(plan, output, meter, progress)


def options_of(args: argparse.Namespace) -> OptionArguments:
    """Collect the options for rows that do not name them."""
    options = request_flags.given(args)
    return {**options, "overlay_style": "outline"} if args.outline else options


def settings_of(args: argparse.Namespace, config: AppConfig) -> dict[str, Setting]:
    """Collect what decides about results besides the rows; of a service that runs already, only the flags are known."""
    given = cast(Mapping[str, Setting], options_of(args))
    settings: dict[str, Setting] = {
        request_flags.flag_of(name): given.get(name)
        for name, field in RequestOptions.model_fields.items()
        if name in ALWAYS_RECORDED or (given.get(name, field.default) != field.default and name not in NOT_OF_RESULTS)
    }
    if not args.standalone and not args.config:
        return settings
    return {**settings, **config_settings(config)}


def config_settings(config: AppConfig) -> dict[str, Setting]:
    """Collect what decides about results in a configuration."""
    values = _leaves("", config.model_dump(mode="json"))
    return {name: value for name, value in values if any(f"{name}.".startswith(f"{each}.") for each in OF_RESULTS)}


def _leaves(prefix: str, values: Mapping[str, JsonValue]) -> Iterator[tuple[str, Setting]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", cast(Setting, value)


@contextmanager
def graph(args: argparse.Namespace, loaded: LoadedConfig, progress: Progress) -> Iterator[Segment]:
    """Find the running service, or start a graph for as long as the block runs."""
    from serve_app.batch.service import HandleSegment
    from serve_app.cli.cluster import job_graph

    previous = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        with job_graph(loaded, progress, address=args.address, app_name=args.app, standalone=args.standalone) as handle:
            yield HandleSegment(handle)
    finally:
        # The end of a graph ignores signals; what is written after it may be stopped again.
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
        progress.say(f"wrote {path}: {written.entities} entities, {written.references} references")
    if args.format == "parquet":
        progress.say(f"wrote {parquet.write_missing(output.folder)} Parquet files")
    if args.coco:
        rows = (placed.row for placed in read_rows(plan.manifest, plan.name))
        path = Path(args.coco)
        path.parent.mkdir(parents=True, exist_ok=True)
        counts = write_coco(path, (job_of_row(row, result, folder) for row, result in output.results(rows)))
        progress.say(f"wrote {args.coco}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))


def _conclude(plan: Plan, output: OutputFolder, meter: Meter, progress: Progress) -> int:
    """Write the summary, say how it went, and choose the exit code."""
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
    done = f"{len(output.done)} of {plan.rows} rows done, {output.images} images, {output.objects} objects"
    if output.verdicts.rows:
        done += f", everything arrived in {output.verdicts.arrived} of {output.verdicts.judged} judged rows"
    progress.say(f"{done}: {path}")
    if left:
        print(f"genseg: stopped with {left} rows left; the same command goes on", file=sys.stderr)
    if failed:
        codes = ", ".join(f"{count} {code}" for code, count in output.codes().items())
        where = output.folder / "errors"
        print(
            f"genseg: {failed} rows failed ({codes}): see {where}; --retry-errors does them again",
            file=sys.stderr,
        )
    return 1 if failed or left else 0
