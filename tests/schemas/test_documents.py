"""Documents of an older service still load."""

from __future__ import annotations

import json

from serve_app.schemas.documents import ResultDocument

OLD = {
    "prompt": "a dog",
    "entities": ["dog"],
    "contextual_images": [],
    "generated_image": None,
    "box_format": "xyxy",
    "coordinate_unit": "pixels",
    "meta": {
        "request_id": "r",
        "models": {"text_parser": "a", "segmentation": "b"},
        "threshold": 0.5,
        "mask_threshold": 0.5,
        "timings_ms": {"parse": 0.0, "segment": 0.0, "total": 0.0},
    },
}


def test_a_saved_document_without_the_newer_keys_of_meta_loads() -> None:
    meta = ResultDocument.model_validate_json(json.dumps(OLD)).meta
    assert (meta.thresholds, meta.unused_thresholds, meta.dropped) == ({}, [], [])


def test_the_description_of_answers_promises_every_key_of_meta() -> None:
    schema = ResultDocument.model_json_schema()["$defs"]["Meta"]
    assert schema["required"] == [
        "request_id", "models", "threshold", "mask_threshold", "thresholds", "unused_thresholds", "dropped",
        "timings_ms",
    ]  # fmt: skip
