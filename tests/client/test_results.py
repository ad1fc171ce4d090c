"""Results of the client: masks in every format, and errors for answers that are not valid."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from serve_app import errors
from serve_app.client import ConnectionFailed, ImageResult, InvalidAnswer, ObjectResult, Result
from serve_app.client.answers import EventReader
from serve_app.client.exchange import Call, Send, exchange
from serve_app.client.failures import read_error
from serve_app.masks.formats import ENCODINGS
from serve_app.masks.rle import encode_rle
from serve_app.schemas.documents import ImageDocument, ObjectDocument, ResultDocument

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def ring_and_island() -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = np.zeros((9, 12), dtype=np.bool_)
    mask[1:8, 1:8] = True
    mask[3:6, 3:6] = False  # a hole
    mask[4, 4] = True  # an island in it
    mask[8, 8] = True  # touches at a corner
    mask[0, 10:] = True  # a part of its own, at the border
    return mask


@pytest.mark.parametrize("key", [None, *(encoding.key for encoding in ENCODINGS.values())])
def test_an_object_has_a_mask_in_whichever_format_it_came(key: str | None) -> None:
    document = ObjectDocument.model_validate(found()).model_copy(update={} if key is None else {key: "a mask"})
    assert ObjectResult(document, (9, 12)).has_mask is (key is not None)


def found(label: str = "dog", index: int = 0, **mask: Any) -> dict[str, Any]:
    return {"object_id": f"{label}_{index}", "label": label, "bbox": [0, 1, 12, 9], "score": 1, **mask}


def as_object(size_hw: tuple[int, int], **mask: Any) -> ObjectResult:
    return ObjectResult(ObjectDocument.model_validate(found(**mask)), size_hw)


def image(objects: list[dict[str, Any]] | None, error: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"path": "a.jpg", "width": 12, "height": 9, "objects": objects, "presence": {}, "error": error}


def result(contextual: list[dict[str, Any]], generated: dict[str, Any] | None = None) -> Result:
    return Result(
        ResultDocument.model_validate(
            {
                "prompt": "A dog and a cat",
                "entities": ["dog", "cat", "fox"],
                "contextual_images": contextual,
                "generated_image": generated,
                "box_format": "xyxy",
                "coordinate_unit": "pixels",
                "meta": {
                    "request_id": "r",
                    "models": {"text_parser": "t", "segmentation": "s"},
                    "threshold": 0.5,
                    "mask_threshold": 0.5,
                    "timings_ms": {"parse": 0.0, "segment": 0.0, "total": 0.0},
                },
            }
        )
    )


def random_mask(seed: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.random.default_rng(seed).random((13, 17)) < 0.4


@pytest.mark.parametrize(
    "expected",
    [ring_and_island(), random_mask(1), random_mask(2), np.ones((5, 4), np.bool_), np.zeros((3, 8), np.bool_)],
    ids=["ring and island", "noise 1", "noise 2", "full", "empty"],
)
def test_mask_is_the_same_from_every_format(expected: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
    rle = encode_rle(expected)
    height, width = expected.shape
    for encoding in ENCODINGS.values():
        mask = as_object((height, width), **{encoding.key: encoding.write(rle, lambda _: None)}).mask()
        assert mask.dtype == np.bool_
        assert mask.shape == expected.shape
        assert np.array_equal(mask, expected), encoding.key


def test_the_client_imports_numpy_with_the_first_mask_only() -> None:
    program = "import sys, serve_app.client; print({'numpy', 'PIL', 'pycocotools'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout == b"set()\n"


def test_mask_is_a_new_writable_array_at_each_call() -> None:
    one = as_object((9, 12), mask_rle=encode_rle(ring_and_island()))
    one.mask()[:] = False
    assert np.array_equal(one.mask(), ring_and_island())


def test_mask_of_format_none_is_no_empty_mask() -> None:
    with pytest.raises(ValueError, match=r"dog_0 has no mask.*mask_format='none'"):
        as_object((9, 12)).mask()


def png_of(size_wh: tuple[int, int]) -> str:
    buffer = io.BytesIO()
    Image.new("1", size_wh).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    "sent",
    [
        {"mask_rle": encode_rle(np.ones((12, 9), np.bool_))},
        {"mask_rle": {"size": [1 << 30, 1 << 30], "counts": "0"}},
        {"mask_rle": {"size": [9, 12], "counts": "nonsense"}},
        {"mask_png": png_of((9, 12))},
        {"mask_png": "not base64"},
        {"mask_png": base64.b64encode(b"not a PNG").decode()},
        {"mask_png": png_of((20_000, 20_000))},
        {"mask_polygons": [{"points": [[0, 0], [3, 3], [0, 3]], "hole": False}]},
        {"mask_polygons": [{"points": [[0, 0], [1e300, 0], [1e300, 3], [0, 3]], "hole": False}]},
        {"mask_polygons": [{"points": [[0, 0], [2.5, 0], [2.5, 3], [0, 3]], "hole": False}]},
    ],
    ids=[
        *("rle, sides swapped", "rle, huge", "rle, broken", "png, sides swapped", "no base64", "no png", "png, huge"),
        *("slanting", "far away", "half a pixel"),
    ],
)
def test_mask_that_cannot_be_is_an_error(sent: dict[str, Any]) -> None:
    with pytest.raises(InvalidAnswer, match=r"^dog_0: "):
        as_object((9, 12), **sent).mask()


def test_result_lists_images_in_order_and_counts() -> None:
    dogs = [found("dog", 0), found("dog", 1), found("cat", 0)]
    answer = result([image(dogs), image([])], image([found("dog", 0)]))
    assert [len(one.objects) for one in answer.images] == [3, 0, 1]
    assert answer.images[-1] is answer.generated
    assert [answer.count(label) for label in answer.entities] == [3, 1, 0]
    first = answer.contextual[0].objects[0]
    assert (first.object_id, first.label, first.bbox, first.score) == ("dog_0", "dog", (0, 1, 12, 9), 1.0)
    assert result([image([])]).images == result([image([])]).contextual
    assert result([image([])]).generated is None


def test_count_refuses_a_label_that_was_not_looked_for() -> None:
    with pytest.raises(ValueError, match="'Dog' is not one of the entities: dog, cat, fox"):
        result([image([])]).count("Dog")


def test_failed_image_is_never_an_empty_one() -> None:
    failed = image(None, {"code": "invalid_image", "message": "contextual_images[0]: truncated", "field": None})
    answer = result([failed], image([found()]))
    assert isinstance(answer.contextual[0].error, errors.InvalidImage)
    with pytest.raises(errors.InvalidImage, match="truncated"):
        _ = answer.contextual[0].objects
    with pytest.raises(errors.InvalidImage, match="truncated"):
        answer.count("dog")
    with pytest.raises(InvalidAnswer, match="neither objects nor an error"):
        _ = ImageResult(ImageDocument.model_validate(image(None))).objects


def test_read_error_takes_the_status_of_an_unknown_code() -> None:
    body = b'{"error": {"code": "draining", "message": "going down", "hint": "later"}}'
    error = read_error(503, {"retry-after": "7"}, body, "http://h")
    assert type(error) is errors.Overloaded
    assert (error.message, error.retry_after_s) == ("going down (draining)", 7.0)


def test_event_reader_reads_lines_cut_anywhere() -> None:
    text = '{"event": "entities", "entities": ["Büste"]}\r\n\n{"event": "entities", "entities": []}\n'.encode()
    for cut in range(len(text) + 1):
        reader = EventReader("http://h")
        events = [*reader.feed(text[:cut]), *reader.feed(b""), *reader.feed(text[cut:])]
        assert [event.entities for event in events] == [("Büste",), ()]  # type: ignore[union-attr]


def test_exchange_waits_longer_each_time_and_never_past_the_deadline() -> None:
    clock = 0.0
    waits: list[float] = []
    limits: list[float] = []

    def refuse_everything() -> None:
        nonlocal clock
        steps = exchange(Call("GET", "http://h", timeout_s=3.0), max_retries=10, now=lambda: clock)
        step = next(steps)
        while True:
            if isinstance(step, Send):
                limits.append(clock + step.wait_s)
                step = steps.throw(httpx.ConnectError("refused"))
            else:
                waits.append(step.seconds)
                clock += step.seconds
                step = steps.send(None)

    with pytest.raises(ConnectionFailed, match="cannot connect"):
        refuse_everything()
    assert len(waits) == 3
    for wait, least in zip(waits, (0.25, 0.5, 1.0), strict=True):
        assert least <= wait <= least * 1.25
    assert sum(waits) < 3.0
    assert limits == pytest.approx([4.0] * 4)  # one deadline for all tries, and a second's grace
