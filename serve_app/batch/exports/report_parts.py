"""Writes the parts of the report as HTML: texts, tables, verdicts and figures. Every text is escaped here."""

from __future__ import annotations

import base64
import html
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from serve_app.batch.exports.jobs import Job, Picture
from serve_app.batch.verdict_means import MeanDict
from serve_app.schemas.dicts import VerdictDict
from serve_app.schemas.verdict_words import (
    ARRIVED,
    ENTITY_COLUMNS,
    NOTHING,
    REFERENCE_COLUMNS,
    entity_words,
    reference_words,
)

_CLASSES = {"ok": "good", "arrived": "good", "not_asked": "", "unknown": "open"}
_ANSWER_CLASSES = {True: "good", False: "bad", None: "open"}
_LONGEST_TEXT = 4_000


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, its CSS class, and the id of the element to which it links; both may be empty."""

    text: str
    kind: str = ""
    link: str = ""


def text(value: object) -> str:
    """Escape a text for HTML. Control characters become spaces, and a very long text is cut."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return html.escape(plain if len(plain) <= _LONGEST_TEXT else plain[:_LONGEST_TEXT] + "…")


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Write a table with a caption; it scrolls sideways if the screen is narrow.

    Args:
        caption: text above the table.
        columns: names of the columns.
        rows: the cells of each row; the first cell is the row's heading.
    """
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in columns)
    body = "".join(f"<tr>{''.join(_cells(row))}</tr>\n" for row in rows)
    return (
        f'<p class="faint">{text(caption)}</p>\n'
        f'<div class="scroll" role="region" aria-label="{text(caption)}" tabindex="0"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>\n"
    )


def _cells(row: Sequence[Cell]) -> Iterator[str]:
    for index, cell in enumerate(row):
        inner = text(cell.text)
        inner = f'<a href="#{cell.link}">{inner}</a>' if cell.link else inner
        kind = f' class="{cell.kind}"' if cell.kind else ""
        yield f'<th scope="row"{kind}>{inner}</th>' if index == 0 else f"<td{kind}>{inner}</td>"


def answer(arrived: bool | None) -> Cell:
    """Return the cell that says whether everything arrived."""
    return Cell(ARRIVED[arrived], _ANSWER_CLASSES[arrived])


def mean(value: MeanDict, *, share: bool = False) -> Cell:
    """Return a cell with a mean and the number of jobs that it covers; `share` writes it in percent."""
    if value["mean"] is None:
        return Cell(NOTHING, "number")
    shown = f"{value['mean']:.0%}" if share else f"{value['mean']:.3f}"
    return Cell(f"{shown} (of {value['rows']:,})", "number")


def verdict_part(verdict: VerdictDict) -> str:
    """Write the verdict of a job: the answer, the reasons, its entities and references."""
    arrived = answer(verdict["arrived"])
    parts = [f'<p class="answer">Arrived: <span class="{arrived.kind}">{text(arrived.text)}</span></p>\n']
    if verdict["reasons"]:
        parts.append(f"<ul>{''.join(f'<li>{text(reason)}</li>' for reason in verdict['reasons'])}</ul>\n")
    entities = [_status_row(entity_words(row), row["status"]) for row in verdict["entities"]]
    parts.append(table("What the prompt asks for", ENTITY_COLUMNS, entities))
    if verdict["references"]:
        references = [_status_row(reference_words(row), row["status"]) for row in verdict["references"]]
        parts.append(table("References (ref 0 is the first contextual image)", REFERENCE_COLUMNS, references))
    return "".join(parts)


def _status_row(cells: Sequence[str], status: str) -> list[Cell]:
    column = 3  # of "status", in both tables
    return [Cell(cell, _CLASSES.get(status, "bad") if index == column else "") for index, cell in enumerate(cells)]


def found_part(job: Job) -> str:
    """Write a table of the number of objects of each entity in each picture, for a job without a verdict."""
    names = ["entity", *(_short(picture) for picture in job.pictures)]
    rows = [
        [Cell(entity), *(Cell(_count(picture, entity), "number") for picture in job.pictures)]
        for entity in job.document["entities"]
    ]
    return table("Objects found, with the best score", names, rows)


def _count(picture: Picture, entity: str) -> str:
    if picture.image["objects"] is None:
        return "failed"
    scores = [item["score"] for item in picture.image["objects"] if item["label"] == entity]
    return f"{len(scores)} ({max(scores):.2f})" if scores else NOTHING


def _short(picture: Picture) -> str:
    return "generated" if picture.role == "generated" else f"ref {picture.index}"


def figure(picture: Picture, jpeg: bytes | None, why_not: str) -> str:
    """Write a figure with its caption.

    Args:
        picture: the picture.
        jpeg: the drawn picture; None for none.
        why_not: the text in place of a picture, if there is none.
    """
    labels = Counter(item["label"] for item in picture.image["objects"] or ())
    shows = ", ".join(f"{label}: {count}" for label, count in labels.items()) or "nothing found"
    error = picture.image["error"]
    if picture.image["objects"] is None:
        shows = f"failed: {error['message']}" if error else "failed"
    title = f"{_short(picture)}: {picture.name}"
    if jpeg is None:
        inner = f'<div class="gone">{text(why_not)}</div>'
    else:
        data = base64.b64encode(jpeg).decode("ascii")
        inner = f'<img src="data:image/jpeg;base64,{data}" alt="{text(f"{title}, {shows}")}" loading="lazy">'
    caption = f'{text(title)}<br><span class="faint">{text(shows)}</span>'
    return f'<figure class="{picture.role}">{inner}<figcaption>{caption}</figcaption></figure>\n'
