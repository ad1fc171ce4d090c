"""The whole job: real Ray, real HTTP, the embedded models, the bundled images."""

from __future__ import annotations

import asyncio
import base64
import gc
import itertools
import json
import time
from collections.abc import Mapping
from typing import Any, cast

import httpx
import pytest
import ray
from ray.serve.request_router import PendingRequest
from ray.util import list_named_actors

from serve_app.client import Client
from serve_app.schemas.base import MaskFormat
from serve_app.schemas.documents import ResultDocument
from serve_app.schemas.requests import ImageInput, SegmentRequest
from serve_app.serving.messages import ImageTask
from serve_app.serving.remote import INLINE_BYTES
from tests.conftest import approximately, png
from tests.graph.conftest import Graph
from tests.stress.service import replica_names


def as_json(request: SegmentRequest, **fields: Any) -> dict[str, Any]:
    """A request as a JSON body."""

    def image(source: ImageInput) -> dict[str, Any]:
        assert isinstance(source.data, bytes)
        return {"data": base64.b64encode(source.data).decode(), "name": source.name}

    body: dict[str, Any] = {
        "prompt": request.prompt,
        "contextual_images": [image(source) for source in request.contextual_images],
    }
    if request.generated_image is not None:
        body["generated_image"] = image(request.generated_image)
    return {**body, **fields}


def as_form(request: SegmentRequest) -> dict[str, Any]:
    """A request as multipart, the way curl sends it."""
    files = [("contextual", (source.name, source.data)) for source in request.contextual_images]
    if request.generated_image is not None:
        files.append(("generated", (request.generated_image.name, request.generated_image.data)))
    return {"data": {"prompt": request.prompt}, "files": files}


def objects(document: Mapping[str, Any]) -> list[Any]:
    """What must be the same whichever way a request comes in."""
    images = [*document["contextual_images"], document["generated_image"]]
    return [document["entities"], *((image["path"], image["objects"], image["presence"]) for image in images)]


def test_every_way_in_gives_the_same_objects(graph: Graph, demo: SegmentRequest) -> None:
    by_json = graph.post(json=as_json(demo)).json()
    by_form = graph.post(**as_form(demo)).json()
    stream = graph.post(json=as_json(demo), headers={"Accept": "application/x-ndjson"})
    by_stream = json.loads(stream.text.splitlines()[-1])["result"]
    by_handle = graph.handle.segment.remote(demo).result()
    by_mapping = graph.handle.segment.remote(as_json(demo)).result()
    with Client(graph.url) as client:
        by_client = client.segment(demo.prompt, demo.contextual_images, demo.generated_image).to_dict()
    expected = approximately(objects(by_json))
    assert len(by_json["generated_image"]["objects"]) >= 1
    for other in (by_form, by_stream, by_handle, by_mapping, by_client):
        assert objects(other) == expected


def test_the_document_has_every_field(graph: Graph, demo: SegmentRequest) -> None:
    response = graph.post(json=as_json(demo), headers={"X-Request-ID": "my-id"})
    assert response.status_code == 200
    document = response.json()
    ResultDocument.model_validate(document)
    assert list(document) == [
        "prompt", "entities", "contextual_images", "generated_image", "verdict", "box_format", "coordinate_unit",
        "meta",
    ]  # fmt: skip
    assert document["meta"]["request_id"] == response.headers["x-request-id"] == "my-id"
    assert document["meta"]["models"] == {"text_parser": "embedded", "segmentation": "embedded"}
    assert (document["box_format"], document["coordinate_unit"]) == ("xyxy", "pixels")
    assert document["contextual_images"][0]["objects"]
    for image in document["contextual_images"]:
        assert list(image) == ["path", "width", "height", "objects", "presence", "error"]
        assert list(image["presence"]) == document["entities"]
        for found in image["objects"]:
            assert list(found) == ["object_id", "label", "bbox", "score", "mask_rle"]
            assert found["mask_rle"]["size"] == [image["height"], image["width"]]
            x1, y1, x2, y2 = found["bbox"]
            assert 0 <= x1 <= x2 <= image["width"]
            assert 0 <= y1 <= y2 <= image["height"]


def test_object_ids_count_within_a_label_by_descending_score(graph: Graph, demo: SegmentRequest) -> None:
    document = graph.post(json=as_json(demo, threshold=0.0, mask_format="none")).json()
    assert document["contextual_images"][0]["objects"]
    for image in document["contextual_images"]:
        for entity in document["entities"]:
            mine = [found for found in image["objects"] if found["label"] == entity]
            assert [found["object_id"] for found in mine] == [f"{entity}_{index}" for index in range(len(mine))]
            scores = [found["score"] for found in mine]
            assert scores == sorted(scores, reverse=True)


async def test_twenty_requests_at_once_are_all_right(graph: Graph, demo: SegmentRequest) -> None:
    sources = [*demo.contextual_images, demo.generated_image]
    jobs = []
    for index in range(20):
        picked = [sources[(index + offset) % 3] for offset in range(1 + index % 3)]
        jobs.append(SegmentRequest(entities=["dog", "red sofa"], contextual_images=[x for x in picked if x]))
    single = [(await graph.handle.segment.remote(job))["contextual_images"] for job in jobs[:3]]
    async with httpx.AsyncClient(timeout=120) as http:
        answers = await asyncio.gather(*(http.post(f"{graph.url}/v1/segment", json=body(job)) for job in jobs))
    assert [answer.status_code for answer in answers] == [200] * 20
    for index, answer in enumerate(answers):
        images = answer.json()["contextual_images"]
        assert [image["path"] for image in images] == [source.name for source in jobs[index].contextual_images]
        if index < 3:
            assert [len(image["objects"]) for image in images] == [len(image["objects"]) for image in single[index]]


def body(job: SegmentRequest) -> dict[str, Any]:
    return as_json(job, entities=job.entities)


def test_presence_tells_absent_from_below_the_threshold(graph: Graph, demo: SegmentRequest) -> None:
    document = graph.post(json=as_json(demo, entities=["dog", "guitar"], threshold=1.0)).json()
    first = document["contextual_images"][0]
    assert first["objects"] == []
    assert first["presence"]["dog"] > 0.5 > first["presence"]["guitar"]


@pytest.mark.parametrize(
    ("mask_format", "key"), [("rle", "mask_rle"), ("polygon", "mask_polygons"), ("png", "mask_png"), ("none", None)]
)
def test_masks_are_the_same_in_every_format(
    graph: Graph, demo: SegmentRequest, mask_format: MaskFormat, key: str | None
) -> None:
    with Client(graph.url) as client:
        plain = client.segment(entities=["dog"], contextual=demo.contextual_images[:1])
        other = client.segment(entities=["dog"], contextual=demo.contextual_images[:1], mask_format=mask_format)
    found = other.to_dict()["contextual_images"][0]["objects"]
    assert found
    raw = found[0]
    keys = {"mask_rle", "mask_polygons", "mask_png"} & {name for name, value in raw.items() if value is not None}
    assert keys == ({key} if key else set())
    if key:
        expected, actual = plain.images[0].objects[0].mask(), other.images[0].objects[0].mask()
        assert (expected == actual).all()


def test_overlays_are_pictures_of_the_images_size(graph: Graph, demo: SegmentRequest) -> None:
    import io

    from PIL import Image

    document = graph.post(json=as_json(demo, overlays=True)).json()
    for image in [*document["contextual_images"], document["generated_image"]]:
        header, data = image["overlay"].split(",", 1)
        assert header == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (image["width"], image["height"])


def test_a_threshold_of_one_entity_leaves_the_others(graph: Graph, demo: SegmentRequest) -> None:
    document = graph.post(json=as_json(demo, entities=["dog", "red sofa"], thresholds={"dog": 1.0})).json()
    labels = [found["label"] for image in document["contextual_images"] for found in image["objects"]]
    assert "dog" not in labels
    assert "red sofa" in labels


def test_meta_says_what_made_the_document(graph: Graph, demo: SegmentRequest) -> None:
    meta = graph.post(json=as_json(demo, thresholds={"DOG": 0.9, "unicorn": 0.1})).json()["meta"]
    assert meta["thresholds"] == {"dog": 0.9}
    assert meta["unused_thresholds"] == ["unicorn"]
    assert meta["dropped"] == []
    assert meta["models"] == {"text_parser": "embedded", "segmentation": "embedded"}


def test_an_entity_of_more_tokens_than_the_segmenter_reads_is_refused_at_its_place(
    graph: Graph, demo: SegmentRequest
) -> None:
    for headers in ({}, {"Accept": "application/x-ndjson"}):
        refused = graph.post(json=as_json(demo, entities=["dog", "z" * 200]), headers=headers)
        assert (refused.status_code, refused.json()["error"]) == (
            400,
            {
                "code": "invalid_request",
                "message": "entities[1]: longer than the 32 tokens that the segmenter reads",
                "field": "entities[1]",
            },
        )


def test_a_result_without_objects_is_a_result(graph: Graph, demo: SegmentRequest) -> None:
    response = graph.post(json=as_json(demo, entities=["guitar"], threshold=1.0))
    assert response.status_code == 200
    assert [image["objects"] for image in response.json()["contextual_images"]] == [[], []]


def test_a_truncated_image_is_named_and_the_next_request_works(graph: Graph, demo: SegmentRequest) -> None:
    bad = as_json(demo)
    whole = base64.b64decode(bad["contextual_images"][1]["data"])
    bad["contextual_images"][1]["data"] = base64.b64encode(whole[: len(whole) // 2]).decode()
    response = graph.post(json=bad)
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "invalid_image"
    assert response.json()["error"]["field"] == "contextual_images[1]"
    assert graph.post(json=as_json(demo)).status_code == 200


def test_a_deadline_is_kept(graph: Graph, demo: SegmentRequest) -> None:
    response = graph.post(json=as_json(demo, timeout_s=0.002))
    assert (response.status_code, response.json()["error"]["code"]) == (504, "timeout")


def test_handle_raises_the_typed_error(graph: Graph) -> None:
    from serve_app.errors import InvalidRequest

    with pytest.raises(InvalidRequest, match="no image"):
        graph.handle.segment.remote({"prompt": "a dog"}).result()


def test_entities_route_reads_a_prompt(graph: Graph) -> None:
    response = graph.post("/v1/entities", json={"prompt": "A dog on a red sofa, cinematic lighting"})
    assert response.status_code == 200
    assert list(response.json()) == ["entities", "dropped"]
    assert "dog" in response.json()["entities"]


def test_readyz_and_healthz(graph: Graph) -> None:
    assert httpx.get(f"{graph.url}/healthz").status_code == 200
    assert httpx.get(f"{graph.url}/readyz").json() == {"status": "ready"}


def test_nothing_of_an_answered_request_stays_in_the_ingress(graph: Graph) -> None:
    pictures = [png(320, 320, seed) for seed in range(6)]
    assert min(map(len, pictures)) > INLINE_BYTES, "they go to the object store"
    for first, second in itertools.pairwise(pictures):
        files = [("contextual", ("first.png", first)), ("generated", ("second.png", second))]
        assert graph.post(data={"entities": '["dog"]'}, files=files).status_code == 200

    (ingress,) = replica_names("Ingress")
    assert kept_instances(ingress, ImageTask) == 0


def test_nothing_of_an_answered_request_stays_in_the_proxy(graph: Graph) -> None:
    for number in range(5):
        headers = {"serve_multiplexed_model_id": f"model {number}"}
        assert graph.post("/v1/entities", json={"prompt": "a dog"}, headers=headers).status_code == 200
    (proxy,) = (each["name"] for each in list_named_actors(all_namespaces=True) if "PROXY" in each["name"])
    assert kept_instances(proxy, PendingRequest) == 0


def kept_instances(actor: str, kind: type) -> int:
    """Count the objects of a class in one of Serve's actors; allows some seconds for the last ones to go."""

    def count(_: Any) -> int:
        gc.collect()
        return sum(isinstance(each, kind) for each in gc.get_objects())

    handle = ray.get_actor(actor, namespace="serve")
    deadline = time.monotonic() + 10
    while (kept := cast(int, ray.get(handle.__ray_call__.remote(count)))) and time.monotonic() < deadline:
        time.sleep(0.2)
    return kept
