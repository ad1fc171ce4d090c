"""A dataset job against the bare models: the same rows, the same batch sizes, results within the same tolerance.

The bare side is one process with both models and nothing else: 32 rows at a time are read, parsed, encoded, detected
and written as documents, in batches as full as the service's budgets allow; each prompt and each phrase is read once.
One torch thread, as each replica has by default.
Ours is the whole job: its own Ray, handles, shards on disk; the start of Ray and of the models counts on neither side.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from serve_app.batch.job import Job, run_job
from serve_app.batch.manifest import read_rows
from serve_app.batch.output import OutputFolder, open_output
from serve_app.batch.patience import Patient
from serve_app.batch.plan import make_plan
from serve_app.batch.progress import Meter
from serve_app.batch.row import Row as ManifestRow
from serve_app.batch.service import HandleSegment
from serve_app.batch.sources import SourceReader
from serve_app.cli.console import Progress
from serve_app.cli.job_progress import JobProgress
from serve_app.cli.local_graph import local_graph
from serve_app.config.schema import AppConfig, CacheConfig
from serve_app.entities.chat import read_entities
from serve_app.entities.filter import EntityFilter
from serve_app.images import decoding
from serve_app.schemas.dicts import ResultDict
from serve_app.schemas.requests import SegmentRequest
from tests.benchmarks import pictures
from tests.benchmarks.rows import Row, compared, limited
from tests.image_document import image_document

ROWS, QUICK_ROWS = 1000, 100
ROWS_PER_PROMPT = 20
CONCURRENCY = 32
CACHE_BYTES = 64 * 1024 * 1024
"""Of image features: full long before the first fifth of the rows is done, so that it is no growth."""

TARGET = 0.9
MAX_GROWTH_MB = 100
SAME = 0.01
"""Batches differ between the sides, and with them the last bits of a score: so many objects may fall off an edge."""

Value = TypeVar("Value")


def write_dataset(folder: Path, rows: int) -> Path:
    """Write pictures that no cache has seen, three a row, and a manifest whose prompts come again."""
    path = folder / "rows.jsonl"
    with path.open("w") as file:
        for number in range(rows):
            request = pictures.request(number, prompt_seed=number // ROWS_PER_PROMPT * ROWS_PER_PROMPT)
            names = [f"{number}_{place}.jpg" for place in range(3)]
            for name, data in zip(names, (*request.contextual, request.generated), strict=True):
                (folder / name).write_bytes(data)
            row = {"id": number, "prompt": request.prompt, "contextual": names[:2], "generated": names[2]}
            file.write(json.dumps(row) + "\n")
    return path


class BareModels:
    """Both models in this process, called directly."""

    def __init__(self, config: AppConfig) -> None:
        import torch

        from serve_app.models.qwen3_vl import EntityParser
        from serve_app.models.sam3 import Sam3Segmenter

        torch.set_num_threads(1)
        self._config = config
        self._parser = EntityParser.load(config.models.text_parser, config.device)
        self._segmenter = Sam3Segmenter.load(config.models.segmentation, config.device)
        self._filter = EntityFilter.of(config)
        self._entities: dict[str, list[str]] = {}
        self._phrases: dict[str, Any] = {}

    def run(self, rows: Sequence[ManifestRow], reader: SourceReader) -> int:
        """Do rows.

        Returns:
            How many objects were found.
        """
        self._read_prompts([row.prompt for row in rows])
        files = [(reader.read(source), self._entities[row.prompt]) for row in rows for source in row.sources]
        decoded = [decoding.decode(data, self._config.limits) for data, _ in files]
        tensors = [self._segmenter.prepare(pixels) for pixels in decoded]
        side_h, side_w = self._segmenter.resolution_hw
        at_once = max(1, self._config.batching.max_pixels // (side_h * side_w))
        features = [each for batch in _batches(tensors, at_once) for each in self._segmenter.encode(batch)]
        found = self._detect(
            [(image, phrase) for image, (_, all_) in zip(features, files, strict=True) for phrase in all_]
        )
        objects = 0
        for pixels, (_, entities) in zip(decoded, files, strict=True):
            detections = {entity: next(found) for entity in entities}
            size_wh = (pixels.shape[1], pixels.shape[0])
            objects += len(image_document(detections, size_wh)["objects"] or ())
        return objects

    def _read_prompts(self, prompts: Sequence[str]) -> None:
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._entities]
        for batch in _batches(new, self._config.batching.max_prompts):
            for prompt, reply in zip(batch, self._parser.generate_each(batch), strict=True):
                assert isinstance(reply, str), reply
                self._entities[prompt] = [*self._filter.apply(read_entities(reply), prompt).kept]
        phrases = [entity for prompt in new for entity in self._entities[prompt] if entity not in self._phrases]
        for batch in _batches([*dict.fromkeys(phrases)], 256):
            self._phrases.update(zip(batch, self._segmenter.embed(batch), strict=True))

    def _detect(self, wanted: Sequence[tuple[Any, str]]) -> Iterator[Any]:
        from serve_app.models.interface import Pair

        pairs = [Pair(image, self._phrases[phrase], 0.5) for image, phrase in wanted]
        for batch in _batches(pairs, self._config.batching.max_pairs):
            yield from self._segmenter.detect(batch)


def time_bare(manifest: Path, config: AppConfig) -> tuple[float, int]:
    """Seconds and objects of the bare side."""
    models = BareModels(config)
    rows = [placed.row for placed in read_rows(manifest)]
    reader = SourceReader(manifest.parent, config.limits.max_image_bytes)
    models.run(rows[:1], reader)  # warm-up
    started = time.perf_counter()
    objects = sum(models.run(batch, reader) for batch in _batches(rows, CONCURRENCY))
    return time.perf_counter() - started, objects


def time_job(manifest: Path, out: Path, config: AppConfig) -> tuple[float, int, float]:
    """Seconds, objects and growth of memory (MB, of every process, after the first fifth of the rows) of our side."""
    progress = Progress(quiet=True)
    with open_output(out, 1000) as output, local_graph(config, progress) as handle:
        plan = make_plan(manifest, output, {}, retry_errors=False)
        segment = HandleSegment(handle)
        early_mb: list[float] = []

        async def watched(request: SegmentRequest) -> ResultDict:
            document = await segment(request)
            if not early_mb and len(output.done) >= plan.rows // 5:
                early_mb.append(anonymous_mb())
            return document

        reader = SourceReader(manifest.parent, config.limits.max_image_bytes)
        meter = Meter(plan.left)
        run_job(Job(output, reader, Patient(watched), {}, meter, JobProgress(progress)), plan, CONCURRENCY)
        reader.close()
        _check(output, plan.rows)
        return meter.seconds, output.objects, anonymous_mb() - early_mb[0]


def anonymous_mb() -> float:
    """Memory of this process and everything below it that belongs to one process alone, in MB."""
    parents, anonymous = {}, {}
    for entry in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in entry.read_text().splitlines() if ":" in line)
        except OSError:  # it ended meanwhile
            continue
        parents[int(entry.parent.name)] = int(fields["PPid"])
        anonymous[int(entry.parent.name)] = int(fields.get("RssAnon", "0 kB").split()[0])
    return sum(size for process, size in anonymous.items() if _is_below(process, parents)) / 1024


def _is_below(process: int, parents: dict[int, int]) -> bool:
    while process in parents:
        if process == os.getpid():
            return True
        process = parents[process]
    return False


def _check(output: OutputFolder, rows: int) -> None:
    if len(output.done) != rows:
        raise SystemExit(f"{rows - len(output.done)} of {rows} rows failed: {output.codes()}")


def _batches(items: Sequence[Value], size: int) -> list[Sequence[Value]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def run(quick: bool = False) -> list[Row]:
    """Measure.

    Args:
        quick: a tenth of the rows.

    Returns:
        The seconds of both sides, and how far our memory grows.
    """
    rows = QUICK_ROWS if quick else ROWS
    config = AppConfig(cache=CacheConfig(vision_bytes=CACHE_BYTES))
    with tempfile.TemporaryDirectory() as name:
        manifest = write_dataset(Path(name), rows)
        job_s, job_objects, growth_mb = time_job(manifest, Path(name) / "out", config)
        bare_s, bare_objects = time_bare(manifest, config)
    if abs(job_objects - bare_objects) > SAME * max(bare_objects, 100):
        raise SystemExit(f"the job found {job_objects} objects, the bare models {bare_objects}")
    what = f"dataset job, {rows} rows of 3 images, against the bare models"
    return [
        compared(what, bare_s, job_s, target=TARGET, more={"images_per_s": 3 * rows / job_s, "objects": job_objects}),
        limited("dataset job, memory growth after the first fifth", growth_mb, unit="MB", at_most=MAX_GROWTH_MB),
    ]


if __name__ == "__main__":
    for line in run():
        print(line)
