"""Documents of a service with a verdict, which the real judge made of made-up pictures."""

from __future__ import annotations

from typing import Any

from serve_app.entities.mentions import Asked
from serve_app.schemas.dicts import ImageDict
from serve_app.verdict.evidence import Picture
from serve_app.verdict.judge import IdentitySettings, judge
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
) -> dict[str, Any]:
    """Write a document as the service sends it, of images of SIZE_HW."""
    return {
        "prompt": "Two dogs from image 1 on a blue sofa",
        "entities": [each.entity for each in asked],
        "contextual_images": [_image(f"c{index}.png", each) for index, each in enumerate(contextual)],
        "generated_image": None if generated is None else _image("g.png", generated),
        "verdict": judge(asked, contextual, generated, identity),
        "box_format": "xyxy",
        "coordinate_unit": "pixels",
        "meta": {
            "request_id": "r-1",
            "models": {"text_parser": "t", "segmentation": "s"},
            "threshold": 0.5,
            "mask_threshold": 0.5,
            "thresholds": {},
            "unused_thresholds": [],
            "dropped": [],
            "timings_ms": {"parse": 1.0, "segment": 2.0, "total": 3.0},
        },
    }


def _image(path: str, each: Picture) -> ImageDict:
    error = {"code": "internal", "message": "failed", "field": None}
    objects: Any = None
    if each.objects is not None:
        places = [5 if item.label == "blue sofa" else int(item.object_id.rpartition("_")[2]) for item in each.objects]
        objects = [
            {
                "object_id": item.object_id,
                "label": item.label,
                "bbox": [10 * place, 0, 10 * place + 8, SIZE_HW[0]],
                "score": item.score,
                "mask_rle": mask(10 * place),
            }
            for item, place in zip(each.objects, places, strict=True)
        ]
    height, width = SIZE_HW
    return {
        "path": path, "width": width, "height": height, "objects": objects, "presence": {},
        "error": None if objects is not None else error,  # type: ignore[typeddict-item]
    }  # fmt: skip
