"""Small datasets, and a fake segmenter whose answer depends on the request alone."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from serve_app.errors import GensegError
from serve_app.masks import rle
from serve_app.schemas.dicts import ImageDict, ModelsDict, ObjectDict, ResultDict, VerdictDict
from serve_app.schemas.requests import ImageInput, SegmentRequest
from tests import documents

MODELS: ModelsDict = {"text_parser": "fake-parser", "segmentation": "fake-segmenter"}
SIZE_WH = (24, 16)


def verdict_of(request: SegmentRequest) -> VerdictDict:
    """A verdict on one dog in the last contextual image. Its numbers depend on the bytes of that image."""
    data = request.contextual_images[-1].data
    assert isinstance(data, bytes)
    number = hashlib.blake2b(data, digest_size=1).digest()[0]
    arrived, similarity = number % 2 == 0, number / 256
    return {
        "arrived": arrived,
        "entities": [
            {
                "entity": "dog", "asked": 1 if arrived else 2, "exact": True, "asked_as": "dog", "sources": [],
                "found": 1, "status": "ok" if arrived else "too_few", "objects": ["dog_0"], "bare": None,
            }
        ],
        "references": [
            {
                "image": 1, "object_id": "dog_0", "individual": 0, "match": "dog_0",
                "similarity": similarity, "margin": None, "status": "arrived",
            }
        ],
        "overlaps": [],
        "scores": {"entities": float(arrived), "identity": similarity, "collapsed": 0.0},
        "reasons": [] if arrived else ["dog: 2 asked, 1 found"],
        "identity": {"model": "fake-identity", "pooling": "cls", "crop": "mask on grey", "threshold": 0.0},
    }  # fmt: skip


class FakeSegment:
    """Finds one box per word of the prompt in every image. The place of the box depends on the image's bytes.

    Args:
        pause_s: how long each row takes, in seconds.
        fail: returns the error of a row, or None for a row that succeeds.
        verdict: makes the verdict of the rows that ask for one.
    """

    def __init__(
        self,
        pause_s: float = 0.0,
        fail: Callable[[SegmentRequest], GensegError | None] = lambda _: None,
        verdict: Callable[[SegmentRequest], VerdictDict] = verdict_of,
    ):
        self.pause_s, self.fail, self.verdict = pause_s, fail, verdict
        self.requests: list[SegmentRequest] = []
        self.at_work = self.most_at_work = 0
        self.models = MODELS

    async def __call__(self, request: SegmentRequest) -> ResultDict:
        self.requests.append(request)
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            await asyncio.sleep(self.pause_s)
        finally:
            self.at_work -= 1
        error = self.fail(request)
        if error is not None:
            raise error
        document = document_of(request, self.models)
        document["verdict"] = self.verdict(request) if request.verdict else None
        return document


def document_of(request: SegmentRequest, models: ModelsDict = MODELS) -> ResultDict:
    """The result document of a request, without a verdict."""
    entities = request.entities or request.prompt.split()
    generated = request.generated_image
    return documents.result(
        request.prompt,
        entities,
        [image_of(image, entities) for image in request.contextual_images],
        None if generated is None else image_of(generated, entities),
        how=documents.meta(models, 0.5 if request.threshold is None else request.threshold),
    )


def image_of(image: ImageInput, entities: list[str]) -> ImageDict:
    """An image document with one box per entity."""
    assert isinstance(image.data, bytes)
    assert image.name is not None
    width, height = SIZE_WH
    objects: list[ObjectDict] = []
    for entity in entities:
        x, y = (byte % 8 for byte in hashlib.blake2b(image.data + entity.encode(), digest_size=2).digest())
        mask = np.zeros((height, width), dtype=np.bool_)
        mask[y : y + 5, x : x + 7] = True
        mask[y, x] = False
        item = documents.found_object(f"{entity}_0", [x, y, x + 7, y + 5], 0.75)
        objects.append({**item, "mask_rle": rle.encode_rle(mask)})
    return documents.image(image.name, objects, SIZE_WH, dict.fromkeys(entities, 0.9))


def write_dataset(folder: Path, rows: int, start: int = 0) -> Path:
    """Write a JSONL manifest of rows with two contextual images and a generated one; all rows share the first image."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "images" / "shared.png").write_bytes(b"shared")
    path = folder / "rows.jsonl"
    with path.open("a") as file:
        for number in range(start, start + rows):
            for name in (f"c{number}.png", f"g{number}.png"):
                (folder / "images" / name).write_bytes(name.encode())
            file.write(json.dumps(row_of(number)) + "\n")
    return path


def row_of(number: int) -> dict[str, Any]:
    """A row of `write_dataset`."""
    return {
        "id": f"row-{number}",
        "prompt": f"dog sofa{number % 3}",
        "contextual": ["images/shared.png", f"images/c{number}.png"],
        "generated": f"images/g{number}.png",
    }


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """Every line of every whole shard of a folder, in order."""
    return [json.loads(line) for path in sorted(folder.glob("part-*.jsonl")) for line in path.read_text().splitlines()]


def by_id(lines: list[dict[str, Any]]) -> dict[str | int, dict[str, Any]]:
    """Index lines by their ids. Fails if two lines have the same id."""
    found = {line["id"]: line for line in lines}
    assert len(found) == len(lines)
    return found


def connecting(segment: Any) -> Callable[..., Any]:
    """Stand in for `cli.batch.graph`: connects to this segmenter and starts nothing."""

    @contextmanager
    def connect(*_: Any) -> Iterator[Any]:
        yield segment

    return connect
