"""What the client sends."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.responses import JSONResponse

from serve_app import errors
from serve_app.client import Result
from serve_app.schemas.requests import ImageInput
from tests.client.service import BYTES, Service, error_document, result_document


def test_segment_sends_paths_and_bytes_as_multipart(ask: Any, service: Service, tmp_path: Path) -> None:
    path = tmp_path / "hund ü.jpg"
    path.write_bytes(BYTES)
    service.will(JSONResponse(result_document()))
    result = ask(
        service.url,
        "segment",
        "A dog, 'ü'",
        [path, b"first"],
        ImageInput(data=b"second", url=None, name="g.png"),
        entities=["dog", "red sofa"],
        threshold=0.0,
        thresholds={"dog": 0.25},
        mask_format="polygon",
        overlays=True,
        timeout_s=7,
        request_id="job-7",
        client={"token": "s3cret"},
    )
    assert isinstance(result, Result)
    assert result.document.model_dump(exclude_unset=True) == result_document()
    (seen,) = service.seen
    assert (seen.method, seen.path) == ("POST", "/v1/segment")
    assert seen.headers["x-request-id"] == "job-7"
    assert seen.headers["authorization"] == "Bearer s3cret"
    assert {key: value for key, value in seen.fields.items() if key not in {"entities", "thresholds"}} == {
        "prompt": ["A dog, 'ü'"],
        "threshold": ["0.0"],
        "mask_format": ["polygon"],
        "overlays": ["true"],
        "timeout_s": ["7.0"],
        "contextual": [(str(path), BYTES), ("image_1", b"first")],
        "generated": [("g.png", b"second")],
    }
    assert json.loads(seen.fields["entities"][0]) == ["dog", "red sofa"]
    assert json.loads(seen.fields["thresholds"][0]) == {"dog": 0.25}


def test_segment_sends_json_where_an_image_is_a_url(ask: Any, service: Service) -> None:
    service.will(JSONResponse(result_document()))
    ask(service.url, "segment", "A dog", ["https://example.org/a.jpg"], b"\x00\xff", thresholds={"dog": 0.25})
    assert service.seen[0].fields == {
        "prompt": "A dog",
        "contextual_images": [{"url": "https://example.org/a.jpg"}],
        "generated_image": {"data": "AP8="},
        "thresholds": {"dog": 0.25},
        "timeout_s": 60.0,
    }


def test_segment_sends_json_without_images_so_that_the_server_decides(ask: Any, service: Service) -> None:
    service.will(JSONResponse(error_document("invalid_request", "no image"), 400))
    with pytest.raises(errors.InvalidRequest, match="no image"):
        ask(service.url, "segment", "A dog")
    assert service.seen[0].fields["contextual_images"] == []


@pytest.mark.parametrize("name", ['a"b.jpg', "a\\b.jpg", "a\nb.jpg"], ids=["quote", "backslash", "line feed"])
def test_segment_sends_names_unchanged(ask: Any, service: Service, name: str) -> None:
    service.will(JSONResponse(result_document()))
    ask(service.url, "segment", "A dog", [ImageInput(data=BYTES, url=None, name=name)])
    assert service.seen[0].fields["contextual_images"][0]["name"] == name


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "RGBA"])
def test_segment_sends_pillow_images_without_loss(ask: Any, service: Service, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    service.will(JSONResponse(result_document()))
    ask(service.url, "segment", "A dog", generated=image)
    name, sent = service.seen[0].fields["generated"][0]
    assert name == "image_0"
    with Image.open(io.BytesIO(sent)) as received:
        assert received.format == "PNG"
        assert np.array_equal(np.asarray(received.convert("RGB")), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(
    ("arguments", "options", "field"),
    [
        ((), {"threshold": 1.5}, "threshold"),
        ((), {"threshold": "0.5"}, "threshold"),
        ((), {"thresholds": {"dog": -0.1}}, "thresholds.dog"),
        ((), {"mask_format": "bitmap"}, "mask_format"),
        ((), {"timeout_s": 0}, "timeout_s"),
        ((), {"timeout_s": float("inf")}, "timeout_s"),
        ((), {"treshold": 0.5}, "treshold"),
        ((), {"request_id": "a\r\nX-Evil: 1"}, "request_id"),
        ((), {"request_id": "ü"}, "request_id"),
        ((), {"request_id": "job 7"}, "request_id"),
        ((), {"request_id": "x" * 129}, "request_id"),
        ((7,), {}, "prompt"),
        (("A dog", "a.jpg"), {}, "contextual_images"),
        (("A dog", [b"x", 7]), {}, "contextual_images[1]"),
        (("A dog", [ImageInput(data=b"x", url=None, name="a")], {"data": b"x"}), {}, "generated_image"),
    ],
)
def test_segment_refuses_wrong_arguments_before_sending(
    ask: Any, service: Service, arguments: Any, options: Any, field: str
) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        ask(service.url, "segment", *arguments, **options)
    assert caught.value.field == field
    assert service.seen == []


def test_segment_names_the_file_that_is_missing(ask: Any, service: Service, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg"):
        ask(service.url, "segment", "A dog", [tmp_path / "nowhere.jpg"])
    assert service.seen == []


def test_segment_places_what_is_wrong_with_a_file(ask: Any, service: Service, tmp_path: Path) -> None:
    path = tmp_path / "bad\udcff.jpg"  # a file name that is not UTF-8
    path.write_bytes(BYTES)
    with pytest.raises(errors.InvalidRequest, match=r"^contextual_images\[1\]\.name: ") as caught:
        ask(service.url, "segment", "A dog", [b"x", path])
    assert caught.value.field == "contextual_images[1].name"
    assert service.seen == []


def test_entities_reads_the_document(ask: Any, service: Service) -> None:
    document = {"entities": ["dog"], "dropped": [{"entity": "mood", "reason": "excluded"}]}
    service.will(JSONResponse(document))
    answer = ask(service.url, "entities", "A dog, moody", request_id="e-1")
    assert answer.model_dump() == document
    (seen,) = service.seen
    assert (seen.path, seen.fields, seen.headers["x-request-id"]) == ("/v1/entities", {"prompt": "A dog, moody"}, "e-1")


def test_base_url_keeps_its_path(ask: Any, service: Service) -> None:
    service.will(JSONResponse({"entities": [], "dropped": []}))
    ask(service.url + "/genseg/", "entities", "fog")
    assert service.seen[0].path == "/genseg/v1/entities"
