"""A result document as flat rows: one for each image and entity. Pure; knows no masks and no files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TypedDict

from serve_app.schemas.dicts import ImageDict, ObjectDict, ResultDict
from serve_app.schemas.events import Role

AreaOf = Callable[[Sequence[ObjectDict], tuple[int, int]], int | None]
"""Counts the pixels that objects of an image cover together, from the objects and the image's (height, width); None
where an object has no mask."""


class EntityRow(TypedDict):
    """What one image shows of one entity.

    `index` counts from 0 within the role. If the image failed, `count`, `best_score` and `area` are null, and `error`
    is its code; `best_score` is null also where nothing was found. `area` is in pixels, those of several objects
    counted once; null where the masks were not asked for. `asked` and `status` are the verdict's, of the job as a
    whole, so they are the same in each image; null without a verdict, and for an entity that it does not judge.
    """

    role: Role
    index: int
    path: str
    entity: str
    count: int | None
    presence: float | None
    best_score: float | None
    area: int | None
    asked: int | None
    status: str | None
    error: str | None


COLUMN_TYPES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(EntityRow.__annotations__, "string"),
        **dict.fromkeys(("index", "count", "area", "asked"), "int64"),
        **dict.fromkeys(("presence", "best_score"), "float64"),
    }
)
"""The type of each column of EntityRow in a table, by its name in Arrow and pandas; all but `index` may be null."""


def entity_rows(document: ResultDict, area_of: AreaOf) -> Iterator[EntityRow]:
    """Yield the rows of a document: images in its order, in each the entities in their order.

    Args:
        document: the result.
        area_of: counts pixels.
    """
    generated = document["generated_image"]
    for index, image in enumerate(document["contextual_images"]):
        yield from image_rows(document, "contextual", index, image, area_of)
    if generated is not None:
        yield from image_rows(document, "generated", 0, generated, area_of)


def image_rows(document: ResultDict, role: Role, index: int, image: ImageDict, area_of: AreaOf) -> Iterator[EntityRow]:
    """Yield the rows of one image of a document."""
    verdict = document.get("verdict")  # documents of earlier versions lack it
    judged = {} if verdict is None else {each["entity"]: each for each in verdict["entities"]}
    size_hw = image["height"], image["width"]
    for entity in document["entities"]:
        objects = None if image["objects"] is None else [each for each in image["objects"] if each["label"] == entity]
        asked = judged.get(entity)
        yield {
            "role": role,
            "index": index,
            "path": image["path"],
            "entity": entity,
            "count": None if objects is None else len(objects),
            "presence": image["presence"].get(entity),
            "best_score": max((each["score"] for each in objects or ()), default=None),
            "area": None if objects is None else area_of(objects, size_hw),
            "asked": None if asked is None else asked["asked"],
            "status": None if asked is None else asked["status"],
            "error": None if image["error"] is None else image["error"]["code"],
        }
