"""A request with many errors is refused with the first one, at a bounded cost."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from serve_app.errors import GensegError, InvalidRequest, TooLarge
from serve_app.schemas.requests import (
    MAX_ENTITIES,
    MAX_IMAGES,
    ImageInput,
    SegmentRequest,
    parse_entities_request,
    parse_request,
)

IMAGE = {"data": "AAAA"}


@pytest.mark.parametrize(
    ("field", "items", "limit"),
    [
        ("contextual_images", [0] * 5000, MAX_IMAGES),
        ("entities", [0] * 5000, MAX_ENTITIES),
        ("thresholds", {str(index): 5 for index in range(5000)}, 2 * MAX_ENTITIES),
    ],
    ids=["contextual_images", "entities", "thresholds"],
)
def test_a_list_longer_than_any_configuration_allows_is_too_large(field: str, items: Any, limit: int) -> None:
    with pytest.raises(TooLarge) as caught:
        parse_request({"generated_image": IMAGE, field: items})
    assert caught.value.message == f"{field}: 5000 items are over the limit of {limit}"
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("body", "message", "field"),
    [
        ({f"k{index}": 0 for index in range(5000)}, "unknown field 'k0'", None),
        ({"prompt": "x", **{f"k{index}": 0 for index in range(5000)}}, "unknown field 'k0'", None),
        (
            {"generated_image": {f"k{index}": 0 for index in range(5000)}},
            "generated_image: unknown field 'k0'",
            "generated_image",
        ),
        (
            {"contextual_images": [IMAGE, {"data": "AAAA", **{"k" * 99 + str(i): 0 for i in range(50)}}]},
            f"contextual_images[1]: unknown field '{'k' * 60}…'",
            "contextual_images[1]",
        ),
    ],
    ids=["body", "beside a known one", "image", "one of the images"],
)
def test_of_many_unknown_fields_the_first_is_named(body: dict[str, Any], message: str, field: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_request(body)
    assert (caught.value.message, caught.value.field) == (message, field)


def test_a_few_unknown_fields_are_named_as_fields() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_request({"generated_image": IMAGE, "treshold": 0.5})
    assert (caught.value.message, caught.value.field) == (
        "treshold: unknown field; did you mean 'threshold'?",
        "treshold",
    )
    with pytest.raises(GensegError, match="unknown field 'b'"):
        parse_entities_request({"prompt": "x", "b": 1, "c": 2})


NUL = "a\0b"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prompt": NUL}, "prompt"),
        ({"entities": ["a", NUL]}, "entities[1]"),
        ({"generated_image": {"data": "AAAA", "name": NUL}}, "generated_image.name"),
        ({"contextual_images": [IMAGE, {"url": f"http://a.test/{NUL}"}]}, "contextual_images[1].url"),
    ],
    ids=["prompt", "entity", "name", "url"],
)
def test_text_with_a_nul_character_is_refused_at_its_field(body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_request(body)
    assert (caught.value.message, caught.value.field) == (f"{field}: has a NUL character, which is not text", field)


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"thresholds": {NUL: 0.5}}, r"thresholds.a\x00b", "has a NUL character, which is not text"),
        ({NUL: 1}, r"a\x00b", "unknown field"),
        ({"": 1}, "''", "unknown field"),
    ],
    ids=["threshold", "unknown field", "empty name"],
)
def test_a_name_that_cannot_be_printed_is_written_in_a_way_that_can(
    body: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_request({"generated_image": IMAGE, **body})
    assert (caught.value.message, caught.value.field) == (f"{field}: {message}", field)


@pytest.mark.parametrize(
    ("options", "message", "field"),
    [
        ({"thresold": 0.5}, "thresold: unknown field; did you mean 'threshold'?", "thresold"),
        ({"generatd": None}, "generatd: unknown field; did you mean 'generated'?", "generatd"),
        ({"zzz": 1}, "zzz: unknown field", "zzz"),
        ({"threshold": 2.0}, "threshold: Input should be less than or equal to 1", "threshold"),
        (
            {"contextual": [b"", "http://host/" + "x" * 9000]},
            "contextual[1]: url: Value should have at most 8192 characters, not 9012",
            "contextual[1]",
        ),
    ],
)
def test_from_files_says_in_one_line_what_is_wrong(options: dict[str, Any], message: str, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        SegmentRequest.from_files("a dog", **options)
    assert (caught.value.message, caught.value.field) == (message, field)


@pytest.mark.parametrize(("key", "meant"), [("generated", "generated_image"), ("contextual", "contextual_images")])
def test_a_name_of_the_form_in_a_json_body_is_answered_with_that_of_the_body(key: str, meant: str) -> None:
    with pytest.raises(InvalidRequest, match=f"unknown field; did you mean '{meant}'"):
        parse_request({"prompt": "a dog", key: None})


def test_a_request_of_a_handle_caller_of_an_earlier_version_has_the_defaults() -> None:
    sent = SegmentRequest(prompt="a dog", generated_image=ImageInput(data=b"x"), threshold=0.3)
    for field in ("verdict", "overlay_style"):  # an earlier version has no such fields
        del sent.__dict__[field]
    request = parse_request(pickle.loads(pickle.dumps(sent)))
    assert (request.verdict, request.overlay_style, request.threshold) == (False, "fill", 0.3)
    assert request == SegmentRequest(prompt="a dog", generated_image=ImageInput(data=b"x"), threshold=0.3)
