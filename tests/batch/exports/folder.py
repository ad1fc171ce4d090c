"""An output folder of `genseg batch` with every kind of mask in it, made by the command itself."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serve_app.batch.exports.jobs import Job, Picture
from serve_app.batch.exports.reading import open_results
from serve_app.cli import batch
from serve_app.cli import export as command
from serve_app.errors import DeadlineExceeded, GensegError, InvalidImage
from serve_app.masks.rle import encode_rle
from serve_app.schemas.dicts import ObjectDict, ResultDict, VerdictDict, images_of
from serve_app.schemas.requests import SegmentRequest
from tests.batch.command import parsed
from tests.batch.dataset import FakeSegment, connecting
from tests.documents import found_object

WIDTH, HEIGHT = 24, 16
ROWS: list[dict[str, Any]] = [
    {
        "id": "both",
        "group": "one",
        "seed": 7,
        "prompt": "ring parts",
        "contextual": ["a/p.png"],
        "generated": "b/p.png",
    },
    {"id": "=2", "group": "two", "prompt": "dog nothing empty", "contextual": ["a/p.png"], "generated": "c.png"},
    {"id": 3, "prompt": "dog broken", "contextual": ["a/p.png"], "generated": "c.png", "verdict": True},
    {"id": "fails", "group": "two", "prompt": "fail", "generated": "c.png"},
]
"""The generated image of row 3 failed, and only this row has a verdict; "fails" has no result."""


def masks_of(entity: str) -> list[NDArray[np.bool_]]:
    """The masks that the fake finds of an entity, in every picture."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    match entity:
        case "ring":
            mask[2:10, 3:12] = True
            mask[4:7, 5:8] = False
        case "parts":
            mask[1:4, 1:4] = mask[10:15, 14:24] = True
            mask[10, 14] = False
        case "dog":
            other = mask.copy()
            mask[5:12, 4:20] = True
            other[0:4, 0:24] = other[5:7, 4:6] = True  # overlaps the first dog by four pixels
            return [mask, other]
        case "empty":
            pass
        case _:
            return []
    return [mask]


class Shapes(FakeSegment):
    """Finds `masks_of` in every picture."""

    async def __call__(self, request: SegmentRequest) -> ResultDict:
        document = await super().__call__(request)
        for image in images_of(document):
            image["objects"] = [
                _object(name, i, m) for name in document["entities"] for i, m in enumerate(masks_of(name))
            ]
        return document


def _object(entity: str, number: int, mask: NDArray[np.bool_]) -> ObjectDict:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] if mask.any() else [2, 2, 4, 5]
    item = found_object(f"{entity}_{number}", [int(each) for each in box], 0.9 - number / 4)
    return {**item, "mask_rle": encode_rle(mask)}


def _failing(request: SegmentRequest) -> GensegError | None:
    return DeadlineExceeded("took too long") if request.prompt == "fail" else None


def unknown_verdict(_: SegmentRequest) -> VerdictDict:
    """The verdict of a request whose generated image failed."""
    return {
        "arrived": None,
        "entities": [
            {
                "entity": "dog", "asked": 1, "exact": False, "asked_as": "dog", "sources": [], "found": None,
                "status": "unknown", "objects": [], "bare": None,
            }
        ],
        "references": [],
        "overlaps": [],
        "scores": {"entities": None, "identity": None, "collapsed": None},
        "reasons": ["generated_image: <i>failed</i>"],
        "identity": None,
    }  # fmt: skip


def write_pictures(folder: Path) -> None:
    """The pictures of ROWS; two have the same name in different folders."""
    for name, colour in (("a/p.png", "red"), ("b/p.png", "green"), ("c.png", "blue")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), colour).save(path)


def run_batch(folder: Path, *flags: Any) -> Path:
    """Run the job of ROWS in a folder; returns the output folder."""
    write_pictures(folder)
    manifest = folder / "rows.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    arguments = parsed(manifest, "--output", folder / "out", *flags)
    segment = Shapes(fail=_failing, verdict=unknown_verdict)
    assert batch.run_with(arguments, connecting(segment)) == 1  # as one row fails
    _break_an_image(folder / "out" / "part-00000.jsonl")
    return folder / "out"


def _break_an_image(shard: Path) -> None:
    """Make the generated image of row 3 a failed one, as a document of `genseg run` may have it."""
    documents = [json.loads(line) for line in shard.read_text().splitlines()]
    error = {"code": "internal", "message": "<b>", "field": None}
    broken = next(each for each in documents if each["id"] == 3)
    broken["generated_image"].update(objects=None, presence={}, error=error)
    shard.write_text("".join(json.dumps(each) + "\n" for each in documents))


def export(results: Path, kind: str, output: Path, *flags: Any) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    flags = (results, "--format", kind, "--output", output, *flags)
    return command.run(parser.parse_args([str(each) for each in flags]))


def jobs_of(results: Path) -> Mapping[str | int, Job]:
    """The jobs by id."""
    return {job.id: job for job in open_results(results).jobs()}


class ColouredPictures:
    """Pictures that need no files; `gone` have none."""

    def __init__(self, *gone: str) -> None:
        self.gone = gone

    def original(self, picture: Picture) -> bytes:
        if picture.name in self.gone:
            raise InvalidImage(f"<{picture.name}> is gone")
        buffer = io.BytesIO()
        Image.new("RGB", (WIDTH, HEIGHT), "red").save(buffer, "PNG")
        return buffer.getvalue()

    def drawn(self, _: Job, picture: Picture) -> bytes:
        return self.original(picture)
