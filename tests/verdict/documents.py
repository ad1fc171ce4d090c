"""Documents of a service with a verdict, which the real judge made of made-up pictures."""

from __future__ import annotations

from serve_app.entities.mentions import Asked
from serve_app.schemas.dicts import ImageDict, ObjectDict, ResultDict
from serve_app.verdict.evidence import Counted, Picture
from serve_app.verdict.judge import IdentitySettings, judge
from tests.documents import found_object, image, result
from tests.verdict.pictures import SIZE_HW, mask, picture, seen

IDENTITY = IdentitySettings({"model": "m", "pooling": "cls", "crop": "c", "threshold": 0.6}, 16)
ASKED = (Asked("dogs", 2, True, "Two dogs", (0,)), Asked("blue sofa", 1, False, "a blue sofa"))
TWO_DOGS = picture(seen("dogs", 0, "rex"), seen("dogs", 1, "fido"))
ONE_DOG = picture(seen("dogs", 0, "rex again"), seen("blue sofa", 5, index=0))


def document(
    contextual: tuple[Picture, ...] = (TWO_DOGS,),
    generated: Picture | None = ONE_DOG,
    asked: tuple[Asked, ...] = ASKED,
    identity: IdentitySettings | None = IDENTITY,
) -> ResultDict:
    """Write a document as the service sends it, of images of SIZE_HW."""
    return result(
        "Two dogs from image 1 on a blue sofa",
        [each.entity for each in asked],
        [_image(f"c{index}.png", each) for index, each in enumerate(contextual)],
        None if generated is None else _image("g.png", generated),
        judge(asked, contextual, generated, identity),
    )


def _image(path: str, each: Picture) -> ImageDict:
    return image(path, None if each.objects is None else [_object(item) for item in each.objects], SIZE_HW[::-1])


def _object(item: Counted) -> ObjectDict:
    place = 5 if item.label == "blue sofa" else int(item.object_id.rpartition("_")[2])
    box = [10 * place, 0, 10 * place + 8, SIZE_HW[0]]
    return {**found_object(item.object_id, box, item.score), "mask_rle": mask(10 * place)}
