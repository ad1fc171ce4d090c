"""The verdict through the whole graph: real Ray, real HTTP, the embedded parser and segmenter.

The identity model has random weights. So an image is compared with itself: its objects are the same ones to any model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from serve_app.config.models import IdentityConfig, ModelsConfig
from serve_app.config.schema import AppConfig
from serve_app.schemas.documents import ResultDocument
from serve_app.schemas.requests import ImageInput, SegmentRequest
from tests.conftest import approximately
from tests.graph.conftest import Graph
from tests.graph.test_graph import as_form, as_json
from tests.models.small_identity import dinov2

NAME = "verdicts"
PROMPT = "Two dogs from image 1 on a blue sofa, without any cats"


@pytest.fixture(scope="module")
def judging(ray_serve: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    from ray import serve

    from serve_app.app import bind

    folder = dinov2(tmp_path_factory.mktemp("identity"))
    models = ModelsConfig(identity=IdentityConfig(model_name=str(folder), threshold=0.6))
    serve.run(bind(AppConfig(models=models)), name=NAME, route_prefix=f"/{NAME}")
    yield Graph(f"{ray_serve}/{NAME}", serve.get_app_handle(NAME))
    serve.delete(NAME)


@pytest.fixture(scope="module")
def pictured(demo: SegmentRequest) -> SegmentRequest:
    """A dog and a red sofa, as reference and as result."""
    assert demo.generated_image is not None
    same = ImageInput(data=demo.generated_image.data, name="same.jpg")
    return SegmentRequest(prompt=PROMPT, contextual_images=[same], generated_image=demo.generated_image)


def test_what_was_asked_is_held_against_what_is_there(judging: Graph, pictured: SegmentRequest) -> None:
    response = judging.post(json=as_json(pictured, verdict=True, mask_format="none"))
    assert response.status_code == 200, response.text
    document = response.json()
    ResultDocument.model_validate(document)
    assert document["entities"] == ["dogs", "blue sofa", "cats"]
    verdict = document["verdict"]
    assert [[*row.values()] for row in verdict["entities"]] == [
        ["dogs", 2, True, "two dogs", [0], 1, "too_few", ["dogs_0"], None],
        ["blue sofa", 1, False, "a blue sofa", [], 0, "other_attribute", [], {"entity": "sofa", "found": 1}],
        ["cats", 0, True, "without any cats", [], 0, "ok", [], None],
    ]
    (row,) = verdict["references"]
    assert (row["object_id"], row["match"], row["similarity"], row["status"]) == ("dogs_0", "dogs_0", 1.0, "arrived")
    assert verdict["scores"] == {"entities": 0.3333, "identity": 1.0, "collapsed": 0.0}
    assert (verdict["arrived"], verdict["identity"]["threshold"]) == (False, 0.6)
    assert not any(key.startswith("mask_") for found in document["generated_image"]["objects"] for key in found)


def test_every_way_in_gives_the_same_verdict(judging: Graph, pictured: SegmentRequest) -> None:
    body = as_json(pictured, verdict=True)
    form = as_form(pictured)
    form["data"]["verdict"] = "true"
    stream = judging.post(json=body, headers={"Accept": "application/x-ndjson"})
    events: list[Any] = [json.loads(line) for line in stream.text.splitlines()]
    verdicts = [
        judging.post(json=body).json()["verdict"],
        judging.post(**form).json()["verdict"],
        events[-1]["result"]["verdict"],
        judging.handle.segment.remote(pictured.model_copy(update={"verdict": True})).result()["verdict"],
        judging.handle.segment.remote(body).result()["verdict"],
    ]
    assert all(verdict == approximately(verdicts[0]) for verdict in verdicts)
    assert verdicts[0]["arrived"] is False
    assert events[0]["entities"] == ["dogs", "blue sofa", "cats"]
    assert not any("verdict" in event for event in events)


def test_overlays_show_the_verdict(judging: Graph, pictured: SegmentRequest) -> None:
    body = as_json(pictured, verdict=True, overlays=True, overlay_style="outline", mask_format="none")
    stream = judging.post(json=body, headers={"Accept": "application/x-ndjson"})
    events: list[Any] = [json.loads(line) for line in stream.text.splitlines()]
    plain = {event["role"]: event["image"]["overlay"] for event in events if event["event"] == "image"}
    result = events[-1]["result"]
    for role, image in (("contextual", result["contextual_images"][0]), ("generated", result["generated_image"])):
        assert image["overlay"].startswith("data:image/jpeg;base64,")
        assert image["overlay"] != plain[role], "what the verdict says is drawn besides"


def test_entities_of_the_caller_are_judged_by_their_names(judging: Graph, pictured: SegmentRequest) -> None:
    request = pictured.model_copy(update={"entities": ["dog", "tree"], "verdict": True})
    verdict = judging.handle.segment.remote(request).result()["verdict"]
    assert [(row["entity"], row["asked"], row["found"], row["status"]) for row in verdict["entities"]] == [
        ("dog", 2, 1, "too_few"), ("tree", None, 1, "ok"),
    ]  # fmt: skip


def test_without_the_option_there_is_no_verdict(judging: Graph, pictured: SegmentRequest) -> None:
    document = judging.post(json=as_json(pictured)).json()
    assert document["verdict"] is None
    assert document["entities"] == ["dogs", "blue sofa"]
