"""Results that were saved: counted by image and role, and read back from files, texts and lines of dataset jobs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve_app import errors
from serve_app.client import AsyncClient, Client, InvalidAnswer, Result
from serve_app.client.requests import segment_call
from serve_app.errors import ConfigError
from tests.client.service import result_document
from tests.client.test_results import found, image, result


@pytest.fixture
def answer() -> Result:
    """Two contextual images with two dogs and a cat, a generated one with one dog."""
    first = image([found("dog", 0), found("dog", 1)]) | {"path": "refs/a.jpg"}
    second = image([found("cat", 0)]) | {"path": "refs/b.jpg"}
    return result([first, second], image([found("dog", 0)]) | {"path": "out.jpg"})


@pytest.mark.parametrize(
    ("entity", "where", "number"),
    [
        ("dog", {}, 3),
        ("dog", {"role": "generated"}, 1),
        ("dog", {"role": "contextual"}, 2),
        ("cat", {"role": "generated"}, 0),
        ("cat", {"role": "contextual", "image": 1}, 1),
        ("dog", {"image": 0}, 2),
        ("dog", {"image": 2}, 1),
        ("dog", {"role": "generated", "image": 0}, 1),
        ("dog", {"image": "refs/a.jpg"}, 2),
        ("dog", {"image": "out.jpg"}, 1),
        ("fox", {}, 0),
    ],
    ids=str,
)
def test_instances_are_counted_where_one_asks(answer: Result, entity: str, where: Any, number: int) -> None:
    assert answer.count(entity, **where) == number


@pytest.mark.parametrize(
    ("entity", "where", "words"),
    [
        ("Dog", {"role": "generated"}, "'Dog' is not one of the entities: dog, cat, fox"),
        ("dog", {"image": 3}, "there is no image 3; images: refs/a.jpg, refs/b.jpg, out.jpg"),
        ("dog", {"image": -1}, "there is no image -1"),
        ("dog", {"image": 1, "role": "generated"}, "there is no generated image 1; images: out.jpg"),
        ("dog", {"image": "c.jpg"}, "there is no image 'c.jpg'"),
        ("dog", {"role": "reference"}, "role: must be 'contextual' or 'generated', not 'reference'"),
    ],
    ids=str,
)
def test_a_count_of_what_there_is_not_is_an_error(answer: Result, entity: str, where: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        answer.count(entity, **where)


def test_an_image_counts_its_own() -> None:
    answer = result([image([found("dog", 0), found("dog", 1)]) | {"presence": {"dog": 0.9, "cat": 0.1}}])
    assert [answer.images[0].count(entity) for entity in ("dog", "cat")] == [2, 0]
    with pytest.raises(ValueError, match="'dogs' is not one of the entities: dog, cat"):
        answer.images[0].count("dogs")


def test_an_image_that_failed_spoils_only_the_counts_that_it_belongs_to() -> None:
    failed = image(None, {"code": "invalid_image", "message": "truncated", "field": None})
    answer = result([failed], image([found()]))
    assert answer.count("dog", role="generated") == 1
    counts: list[Callable[[], int]] = [
        lambda: answer.count("dog"),
        lambda: answer.count("dog", image=0),
        lambda: answer.images[0].count("dog"),
    ]
    for count in counts:
        with pytest.raises(errors.InvalidImage, match="truncated"):
            count()


def line(**more: Any) -> dict[str, Any]:
    """A line of a dataset job, with keys that this version does not know."""
    document = result_document()
    return {"id": "row-1", **document, "columns": {"seed": 7}, "meta": {**document["meta"], "later": [1]}, **more}


def test_a_saved_document_is_read_from_anything_that_holds_it(tmp_path: Path) -> None:
    path, text = tmp_path / "saved.json", json.dumps(result_document(), indent=2)
    path.write_text(f"\ufeff{text}\n")
    expected = Result.load(result_document())
    assert expected.to_dict() == result_document()
    for source in (path, str(path), text, f" \n{text}", text.encode(), f"\ufeff{text}"):
        assert Result.load(source) == expected


def test_a_line_of_a_dataset_job_is_read(tmp_path: Path) -> None:
    shard = tmp_path / "part-00000.jsonl"
    shard.write_text(json.dumps(line()) + "\n" + json.dumps(line(id=2)) + "\n")
    read = [Result.load(each) for each in shard.read_text().splitlines()]
    assert [each.to_dict() for each in read] == [result_document()] * 2
    with pytest.raises(InvalidAnswer, match=r"part-00000\.jsonl: has 2 lines; Result.load reads one document"):
        Result.load(shard)


def test_a_document_of_an_older_version_is_read() -> None:
    document = result_document()
    for name in ("thresholds", "unused_thresholds", "dropped"):
        document["meta"].pop(name, None)
    document.pop("verdict", None)
    assert Result.load(document).prompt == document["prompt"]


def test_a_line_of_an_error_raises_it() -> None:
    failed = {"id": "row-1", "code": "invalid_image", "message": "generated_image: empty", "field": "generated_image"}
    with pytest.raises(errors.InvalidImage, match="generated_image: empty") as caught:
        Result.load(json.dumps(failed))
    assert caught.value.field == "generated_image"


def test_the_body_of_an_answer_that_is_an_error_raises_it() -> None:
    body = {"error": {"code": "overloaded", "message": "queues are full", "field": None, "later": 1}, "request_id": "x"}
    for source in (body, json.dumps(body), json.dumps(body).encode()):
        with pytest.raises(errors.Overloaded, match="queues are full"):
            Result.load(source)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{", "the text: is not JSON"),
        ("{}", "the text: is not a result document: prompt: Field required"),
        (b"[1]", "the text: is not a result document, but list"),
        (b"\xff{", "the text: is not UTF-8 text"),
        ({"code": "x"}, "the document: is not a result document"),
        ({"code": 1, "message": 2}, "the document: is not an error: code: Input should be a valid string"),
        ({"error": {"code": "x", "message": None}}, "the document: is not an error: message: Input should be a valid"),
        ({"error": "x"}, "the document: is not a result document"),
        (b"[" * 100_000, "the text: is not a result document: nested too deep"),
        ('{"a": ' * 100_000, "the text: is not a result document: nested too deep"),
        ('{"a": ' + "1" * 5000 + "}", "the text: is not JSON that can be read: a number has too many digits"),
        ("", "the text: is empty"),
        (" \n", "the text: is empty"),
        (b"", "the text: is not JSON"),
        (line(entities="dog"), "the document: is not a result document: entities"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_document_is_named(source: Any, words: str) -> None:
    with pytest.raises(InvalidAnswer, match=words):
        Result.load(source)
    with pytest.raises(FileNotFoundError):
        Result.load("nowhere.json")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("thresold", "did you mean 'threshold'?"),
        ("tresholds", "did you mean 'thresholds'?"),
        ("mask_fromat", "did you mean 'mask_format'?"),
        ("requestid", "did you mean 'request_id'?"),
        ("colour", "the options are entities, threshold, "),
    ],
)
def test_a_misspelt_option_is_refused_with_the_nearest(name: str, hint: str) -> None:
    options: Any = {name: 0.5}
    with pytest.raises(errors.InvalidRequest) as caught:
        segment_call("", "a dog", [], None, options, timeout_s=60)
    assert caught.value.message.startswith(f"{name}: unknown option; {hint}")
    assert caught.value.field == name


@pytest.mark.parametrize("timeout_s", [1e12, 86401.0])
def test_a_wait_beyond_what_clocks_count_is_refused(timeout_s: float) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"timeout_s: .* is over 86400 s, a day"):
        segment_call("", "a dog", [], None, {"timeout_s": timeout_s}, timeout_s=60)
    for client in (Client, AsyncClient):
        with pytest.raises(ConfigError, match=r"timeout_s: must be above 0 and at most 86400 seconds, not "):
            client(timeout_s=timeout_s)


def test_both_clients_have_the_same_methods() -> None:
    def methods(client: type) -> set[str]:
        return {
            name.removeprefix("a") if name == "aclose" else name for name in vars(client) if not name.startswith("_")
        }

    assert methods(Client) == methods(AsyncClient)
