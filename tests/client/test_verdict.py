"""The verdict as users of the client get it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from serve_app.client import InvalidAnswer, Result, Verdict
from tests.client.service import BYTES, Service, result_document
from tests.documents import as_json
from tests.verdict.documents import document

OPTIONS: dict[str, Any] = {"verdict": True, "overlay_style": "outline"}


def test_the_verdict_is_asked_for_and_typed(ask: Any, service: Service) -> None:
    service.will(JSONResponse(document()))
    result = ask(service.url, "segment", "Two dogs from image 1 on a blue sofa", [BYTES], BYTES, **OPTIONS)
    assert {name: service.seen[0].fields[name] for name in OPTIONS} == {
        "verdict": ["true"],
        "overlay_style": ["outline"],
    }
    verdict = result.verdict
    assert isinstance(verdict, Verdict)
    assert verdict.arrived is False
    assert [(row.entity, row.asked, row.found, row.status) for row in verdict.entities] == [
        ("dogs", 2, 1, "too_few"), ("blue sofa", 1, 1, "ok"),
    ]  # fmt: skip
    assert [(row.object_id, row.match, row.status) for row in verdict.references] == [
        ("dogs_0", "dogs_0", "arrived"), ("dogs_1", None, "merged"),
    ]  # fmt: skip
    assert result.to_dict() == document()


def test_a_stream_has_the_verdict_in_its_result(ask: Any, service: Service) -> None:
    line = json.dumps({"event": "result", "result": document()})
    service.will(Response(f"{line}\n", media_type="application/x-ndjson"))
    *_, last = ask(service.url, "segment_stream", "p", [BYTES], BYTES, **OPTIONS)
    assert last.result.verdict.reasons == as_json(document())["verdict"]["reasons"]


def test_a_match_is_found_by_its_id() -> None:
    result = Result.load(document())
    assert result.verdict is not None
    assert result.generated is not None
    arrived = result.verdict.references[0]
    assert arrived.match is not None
    assert result.generated.find(arrived.match).mask().sum() == 8 * 20
    with pytest.raises(ValueError, match=r"^g\.png has no object 'dogs_7'$"):
        result.generated.find("dogs_7")


def test_a_document_without_a_verdict_has_none(ask: Any, service: Service) -> None:
    older = result_document()
    assert "verdict" not in older
    service.will(JSONResponse(older), JSONResponse(older | {"verdict": None}))
    assert [ask(service.url, "segment", "A dog", [BYTES]).verdict for _ in range(2)] == [None, None]
    assert Result.load(older).verdict is None
    assert Result.load(older).to_dict() == older


def test_a_verdict_of_a_newer_service_is_read_and_a_wrong_one_is_named() -> None:
    newer = as_json(document())
    newer["verdict"]["entities"][0]["certainty"] = 0.9
    assert Result.load(newer).to_dict() == document()
    wrong = as_json(document())
    wrong["verdict"]["entities"][0]["status"] = "perhaps"
    with pytest.raises(InvalidAnswer, match=r"verdict\.entities\[0\]\.status"):
        Result.load(wrong)
