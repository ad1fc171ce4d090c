"""Reports a result: writes a progress line per image, the JSON file, a short table and the verdict."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from serve_app.batch.whole_file import write_whole
from serve_app.cli.console import Progress
from serve_app.cli.options import CommandError
from serve_app.cli.verdict_report import verdict_table
from serve_app.schemas.counted import counted
from serve_app.schemas.dicts import ErrorDict, ImageDict, ResultDict, images_of
from serve_app.schemas.events import EventDict, Role
from serve_app.schemas.requests import SegmentRequest
from serve_app.schemas.shown_url import shown_url


def follow(events: Iterator[EventDict], request: SegmentRequest, progress: Progress) -> ResultDict:
    """Write a progress line for each event.

    Args:
        events: the events of the request.
        request: the request, for the names of its images.
        progress: where the lines go.

    Returns:
        The result document of the last event.

    Raises:
        CommandError: the request failed, or the events ended without a result.
    """
    done: set[tuple[Role, int]] = set()
    for event in events:
        if event["event"] == "entities":
            progress.say(f"entities: {', '.join(event['entities']) or 'none'}")
        elif event["event"] == "image":
            done.add((event["role"], event["index"]))  # an image may come twice, see schemas.events
            progress.say(image_line(len(done), request, event["image"]))
        elif event["event"] == "error":
            raise CommandError(named(event["error"], request))
        else:
            return event["result"]
    raise CommandError("the answer ended without a result")


def named(error: ErrorDict, request: SegmentRequest) -> str:
    """Return an error's message, with the image's name instead of the request's field."""
    field, message = error["field"] or "", error["message"]
    sources = {f"contextual_images[{index}]": image for index, image in enumerate(request.contextual_images)}
    if request.generated_image is not None:
        sources["generated_image"] = request.generated_image
    source = sources.get(field)
    name = source and (source.name or (source.url and shown_url(source.url)))
    return message.replace(field, name, 1) if name else message


def image_line(done: int, request: SegmentRequest, image: ImageDict) -> str:
    """Return the progress line of a finished image.

    Args:
        done: how many images are finished, this one included.
        request: the request, for the number of its images.
        image: the image's part of the result.
    """
    total = len(request.contextual_images) + (request.generated_image is not None)
    if image["error"]:
        return f"[{done}/{total}] {image['path']}: {image['error']['message']}"
    return f"[{done}/{total}] {image['path']}: {counted(len(image['objects'] or ()), 'objects')}"


def write_json(path: Path, document: ResultDict) -> None:
    """Write a document as JSON. A file is written as a whole or not at all; a pipe or a device is written directly.

    Raises:
        CommandError: the path cannot be written.
    """
    try:
        write_whole(path, as_json(document).encode() + b"\n")
    except OSError as error:
        raise CommandError(f"-o {path}: {error.strerror or error}") from None


def as_json(document: ResultDict) -> str:
    """Return a document as indented JSON."""
    return json.dumps(document, ensure_ascii=False, indent=2)


def summary(document: ResultDict) -> str:
    """Return a short table: how many objects of each entity are in each image, with the best score."""
    images = images_of(document)
    entities = document["entities"]
    rows = [["image", "size", *entities]]
    for image in images:
        cells = [_cell(image, entity) for entity in entities]
        rows.append([Path(image["path"]).name[:40], f"{image['width']}x{image['height']}", *cells])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def say_verdict(document: ResultDict, progress: Progress) -> None:
    """Write the verdict's tables to stderr, if the document has a verdict."""
    verdict = document.get("verdict")  # an older service sends none
    if verdict is not None:
        table = verdict_table(verdict, len(document["contextual_images"]), coloured=progress.takes_colours)
        progress.say(f"\n{table}")


def _cell(image: ImageDict, entity: str) -> str:
    if image["error"]:
        return "failed"
    scores = [item["score"] for item in image["objects"] or () if item["label"] == entity]
    return f"{len(scores)} ({max(scores):.2f})" if scores else "-"
