"""Writes results as one HTML file for people: rates, and each job with its verdict and pictures.

The file has no script, and its content security policy forbids everything that is not in the file.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from serve_app.batch.exports import report_parts as parts
from serve_app.batch.exports.jobs import Job, Picture, Pictures
from serve_app.batch.exports.reading import Results
from serve_app.batch.exports.report_parts import Cell
from serve_app.batch.exports.report_style import STYLE, policy
from serve_app.batch.output import OutputError
from serve_app.batch.verdict_means import VerdictMeans, group_of
from serve_app.batch.whole_file import whole_file
from serve_app.errors import GensegError
from serve_app.schemas.counted import counted
from serve_app.schemas.verdict_words import NOTHING

MAX_JOBS = 1_000
"""Largest number of jobs that are shown one by one. The rates cover all jobs."""
MAX_PICTURES = 200
MAX_ENTITIES = 50
MAX_FAILURES = 200


@dataclass
class _Found:
    """The number of pictures in which an entity was looked for and was found, and the number of its objects."""

    looked: int = 0
    found: int = 0
    objects: int = 0


@dataclass
class _Totals:
    """The figures over all jobs, and the rows of the tables of jobs and failures."""

    jobs: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    pictures: int = 0
    objects: int = 0
    means: VerdictMeans = field(default_factory=VerdictMeans)
    entities: dict[tuple[str, str], _Found] = field(default_factory=dict)
    overview: list[list[Cell]] = field(default_factory=list)
    failures: list[list[Cell]] = field(default_factory=list)

    def add(self, job: Job) -> None:
        group = group_of(job.columns)
        verdict = job.document.get("verdict")
        self.jobs[group] += 1
        self.pictures += len(job.pictures)
        if verdict is not None:
            self.means.add(group, verdict)
        for picture in job.pictures:
            self._count(job, picture)
        number = self.jobs.total()
        if number <= MAX_JOBS:
            name = Cell(f"{job.id}", link=f"job-{number}")
            arrived = Cell(NOTHING) if verdict is None else parts.answer(verdict["arrived"])
            reasons = "; ".join(() if verdict is None else verdict["reasons"])
            self.overview.append([name, Cell(group or NOTHING), arrived, Cell(reasons[:300])])

    def _count(self, job: Job, picture: Picture) -> None:
        if picture.image["objects"] is None:
            return
        labels = Counter(item["label"] for item in picture.image["objects"])
        self.objects += labels.total()
        for entity in job.document["entities"]:
            found = self.entities.setdefault((entity, picture.role), _Found())
            found.looked += 1
            found.found += labels[entity] > 0
            found.objects += labels[entity]


def write_report(
    path: Path, results: Results, pictures: Pictures | None, max_pictures: int = MAX_PICTURES
) -> dict[str, int]:
    """Write the report. It takes about 2 kB for each job and 50 kB for each picture.

    Args:
        path: the file to write; see `whole_file`.
        results: the results; they are read twice, the first time for the rates.
        pictures: draws the pictures; None leaves them out.
        max_pictures: largest number of pictures; the first ones are shown.

    Returns:
        The numbers of jobs shown, pictures shown and pictures not shown.

    Raises:
        OutputError: the file cannot be written.
    """
    totals = _totals(results)
    drawing = _Drawing(pictures, max_pictures)
    try:
        with whole_file(path) as whole:
            file = io.TextIOWrapper(whole, "utf-8", errors="xmlcharrefreplace", write_through=True)
            _write_head(file, results, totals)
            for number, job in enumerate(results.jobs(), 1):
                if number > MAX_JOBS:
                    break
                file.write(_job(job, number, drawing))
            file.write(_foot(totals))
            file.detach()  # `whole_file` closes the binary file
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from None
    shown = min(totals.jobs.total(), MAX_JOBS)
    return {"jobs": shown, "pictures": drawing.drawn, "pictures not shown": totals.pictures - drawing.drawn}


def _totals(results: Results) -> _Totals:
    totals = _Totals()
    for job in results.jobs():
        totals.add(job)
    for failure in results.failures():
        totals.failed[group_of(failure.get("columns", {}))] += 1
        if len(totals.failures) < MAX_FAILURES:
            own = Cell(str(failure.get("id", NOTHING)))
            totals.failures.append([own, Cell(failure["code"], "bad"), Cell(failure["message"])])
    return totals


def _write_head(file: IO[str], results: Results, totals: _Totals) -> None:
    jobs, failed = totals.jobs.total(), totals.failed.total()
    title = f"genseg: {Path(results.name).name or results.name}"
    summary = ", ".join(
        [
            counted(jobs, "jobs"),
            counted(totals.pictures, "pictures"),
            counted(totals.objects, "objects"),
            *([f"{counted(failed, 'jobs')} failed"] if failed else []),
        ]
    )
    file.write(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy()}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{parts.text(title)}</title>\n<style>{STYLE}</style></head>\n<body>\n<header>"
        f'<h1>{parts.text(title)}</h1><p class="faint">{parts.text(summary)}</p></header>\n<main>\n'
    )
    file.writelines(_rates(totals))
    if len(totals.overview) > 1:
        more = jobs - len(totals.overview)
        caption = "Each id leads to its job"
        caption += f"; {more:,} more jobs count in the rates only" if more else ""
        file.write(f"<h2>Jobs</h2>\n{parts.table(caption, ('id', 'group', 'arrived', 'why'), totals.overview)}")
    file.write("<h2>Results</h2>\n" if totals.overview else "")


def _rates(totals: _Totals) -> Iterator[str]:
    groups = sorted({*totals.jobs, *totals.failed})
    summary = totals.means.summary()
    if summary is not None or groups not in ([], [""]):
        yield "<h2>Rates</h2>\n"
        names = ["group", "jobs", "failed", "arrived", "entities ok", "identity", "collapsed"]
        rows = [_group_row("all", totals, None)] + [_group_row(name or "(none)", totals, name) for name in groups]
        yield parts.table("Means by group, each over the jobs that could be judged", names, rows)
    elif totals.entities:
        yield "<h2>Rates</h2>\n"
    if totals.entities:
        looked: Counter[str] = Counter()
        for (name, _), each in totals.entities.items():
            looked[name] += each.looked
        entities = [name for name, _ in looked.most_common()]
        rows = [[Cell(name), *_found_cells(totals, name)] for name in entities[:MAX_ENTITIES]]
        more = len(entities) - MAX_ENTITIES
        caption = "Pictures that show an entity" + (f"; {more:,} rarer entities are left out" if more > 0 else "")
        yield parts.table(caption, ["entity", "contextual", "generated", "objects"], rows)


def _group_row(name: str, totals: _Totals, group: str | None) -> list[Cell]:
    summary = totals.means.summary()
    jobs = totals.jobs.total() if group is None else totals.jobs[group]
    failed = totals.failed.total() if group is None else totals.failed[group]
    counts = [Cell(name), Cell(f"{jobs:,}", "number"), Cell(f"{failed:,}", "number")]
    means = summary and (summary["all"] if group is None else summary["groups"].get(group))
    if not means:
        return [*counts, *[Cell(NOTHING, "number")] * 4]
    further = [parts.mean(means["entities"]), parts.mean(means["identity"]), parts.mean(means["collapsed"])]
    return [*counts, parts.mean(means["arrived"], share=True), *further]


def _found_cells(totals: _Totals, entity: str) -> Iterator[Cell]:
    objects = 0
    for role in ("contextual", "generated"):
        each = totals.entities.get((entity, role), _Found())
        objects += each.objects
        yield Cell(f"{each.found:,} of {each.looked:,}" if each.looked else NOTHING, "number")
    yield Cell(f"{objects:,}", "number")


class _Drawing:
    """Draws the first pictures; for the others, it says why they are not shown."""

    def __init__(self, pictures: Pictures | None, most: int) -> None:
        self._pictures = pictures
        self._most = most
        self.drawn = 0

    def figure(self, job: Job, picture: Picture) -> str:
        if self._pictures is None:
            return parts.figure(picture, None, "Not shown: the report was made without pictures.")
        if self.drawn >= self._most:
            return parts.figure(picture, None, f"Not shown: the report has at most {self._most:,} pictures.")
        try:
            jpeg = self._pictures.drawn(job, picture)
        except GensegError as error:
            return parts.figure(picture, None, f"No picture: {error.message}")
        self.drawn += 1
        return parts.figure(picture, jpeg, "")


def _job(job: Job, number: int, drawing: _Drawing) -> str:
    document, group = job.document, group_of(job.columns)
    verdict = document.get("verdict")
    title = f"{job.id}" + (f" ({group})" if group else "")
    prompt = f"<blockquote>{parts.text(document['prompt'])}</blockquote>\n" if document["prompt"] else ""
    body = parts.found_part(job) if verdict is None else parts.verdict_part(verdict)
    figures = "".join(drawing.figure(job, picture) for picture in job.pictures)
    return (
        f'<article id="job-{number}"><h3>{parts.text(title)}</h3>\n{prompt}{body}'
        f'<div class="pictures">{figures}</div></article>\n'
    )


def _foot(totals: _Totals) -> str:
    if not totals.failures:
        return "</main></body></html>\n"
    more = totals.failed.total() - len(totals.failures)
    caption = f"The first {len(totals.failures):,}; {more:,} more failed" if more else "Jobs that failed"
    failures = parts.table(caption, ("id", "code", "message"), totals.failures)
    return f"<h2>Failed</h2>\n{failures}</main></body></html>\n"
