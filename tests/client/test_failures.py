"""The client's errors for error answers, and for answers of another kind of server."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from serve_app import errors
from serve_app.client import InvalidAnswer
from tests.client.service import Service, error_document, image_document, result_document


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_request", errors.InvalidRequest),
        (401, "unauthorized", errors.Unauthorized),
        (413, "too_large", errors.TooLarge),
        (415, "unsupported_media_type", errors.UnsupportedMediaType),
        (422, "invalid_image", errors.InvalidImage),
        (422, "fetch_failed", errors.FetchFailed),
        (502, "invalid_model_reply", errors.InvalidModelReply),
        (502, "model_unavailable", errors.ModelUnavailable),
        (504, "timeout", errors.DeadlineExceeded),
        (500, "internal", errors.InternalError),
        (418, "teapot", errors.GensegError),
    ],
)
@pytest.mark.parametrize("method", ["segment", "segment_stream"])
def test_errors_come_back_as_their_classes_and_are_not_tried_again(
    ask: Any, service: Service, status: int, code: str, kind: type[errors.GensegError], method: str
) -> None:
    service.will(JSONResponse(error_document(code, "contextual_images[1]: no", "contextual_images[1]"), status))
    with pytest.raises(errors.GensegError) as caught:
        ask(service.url, method, "A dog", [b"x"])
    assert type(caught.value) is kind
    assert caught.value.field == "contextual_images[1]"
    assert caught.value.message.startswith("contextual_images[1]: no")
    assert len(service.seen) == 1
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), again.message, again.field) == (kind, caught.value.message, caught.value.field)


@pytest.mark.parametrize(
    ("response", "kind", "said"),
    [
        (HTMLResponse("<h1>502\nBad Gateway</h1>", 502), InvalidAnswer, "<h1>502 Bad Gateway</h1>"),
        (PlainTextResponse("Path '/v1/segment' not found", 404), InvalidAnswer, "not found"),
        (PlainTextResponse("", 500), InvalidAnswer, "an empty body"),
        (HTMLResponse("<h1>too big</h1>", 413), errors.TooLarge, "answered 413"),
        (HTMLResponse("<h1>slow</h1>", 504), errors.DeadlineExceeded, "answered 504"),
        (Response(status_code=307, headers={"location": "https://else.example/"}), InvalidAnswer, "else.example"),
        (Response(status_code=204), InvalidAnswer, "answered 204"),
        (JSONResponse({"detail": "Not Found"}, 404), InvalidAnswer, "Not Found"),
        (HTMLResponse("<h1>Welcome to nginx</h1>", 200), InvalidAnswer, "not a ResultDocument"),
        (JSONResponse({}, 200), InvalidAnswer, "prompt: Field required"),
        (JSONResponse(result_document(entities="dog"), 200), InvalidAnswer, "entities: "),
        (JSONResponse(result_document(contextual_images=[image_document(width="3")])), InvalidAnswer, r"\[0\]\.width"),
    ],
)
def test_segment_says_who_else_answers(ask: Any, service: Service, response: Response, kind: Any, said: str) -> None:
    service.will(response)
    with pytest.raises(kind, match=said) as caught:
        ask(service.url, "segment", "A dog", [b"x"])
    assert service.url + "/v1/segment" in caught.value.message
    assert "\n" not in caught.value.message
    assert len(service.seen) == 1


def test_segment_skips_the_fields_of_a_newer_server(ask: Any, service: Service) -> None:
    newer = result_document(license="CC0", contextual_images=[image_document(depth=[1.0])])
    newer["meta"]["timings_ms"]["queue"] = 1.0
    service.will(JSONResponse(newer))
    assert ask(service.url, "segment", "A dog", [b"x"]).to_dict() == result_document()
