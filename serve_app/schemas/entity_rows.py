"""Converts a result document into flat rows, one for each image and entity. Knows neither masks nor files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TypedDict

from serve_app.schemas.dicts import ImageDict, ObjectDict, ResultDict
from serve_app.schemas.events import Role

AreaOf = Callable[[Sequence[ObjectDict], tuple[int, int]], int | None]
"""A function that takes objects of an image and its (height, width), and returns the number of pixels that the objects
cover together; None if an object has no mask."""


class EntityRow(TypedDict):
    """The objects of one entity in one image.

    `index` is the image's index among the images of its role, from 0. If the image failed, `count`, `best_score` and
    `area` are null, and `error` is the error's code. `best_score` is also null if nothing was found. `area` is in
    pixels, and a pixel of several objects counts once; `area` is null if the request asked for no masks. `asked` and
    `status` come from the verdict on the generated image, so they are the same in every image. They are null if there
    is no verdict, or if the verdict does not judge the entity.
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
    """Yield the rows of a document, in the order of its images and, in each image, of its entities.

    Args:
        document: the result.
        area_of: counts the pixels of objects.
    """
    generated = document["generated_image"]
    for index, image in enumerate(document["contextual_images"]):
        yield from image_rows(document, "contextual", index, image, area_of)
    if generated is not None:
        yield from image_rows(document, "generated", 0, generated, area_of)


def image_rows(document: ResultDict, role: Role, index: int, image: ImageDict, area_of: AreaOf) -> Iterator[EntityRow]:
    """Yield the rows of one image of a document; the arguments are as in `entity_rows`."""
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
