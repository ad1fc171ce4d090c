from __future__ import annotations

import pickle

import pytest

from serve_app import errors


def every_class(base: type[errors.GensegError] = errors.GensegError) -> list[type[errors.GensegError]]:
    return [base, *(found for child in base.__subclasses__() for found in every_class(child))]


@pytest.mark.parametrize("kind", every_class(), ids=lambda kind: kind.__name__)
def test_every_error_survives_pickling(kind: type[errors.GensegError]) -> None:
    error = kind("what is wrong", "contextual_images[1]")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (copy.message, copy.field, copy.code, copy.status) == (error.message, error.field, kind.code, kind.status)


def test_at_places_an_error_once() -> None:
    error = errors.InvalidImage("empty").at("contextual_images[1]").at("elsewhere")
    assert error.message == "contextual_images[1]: empty"
    assert error.field == "contextual_images[1]"


def test_at_keeps_what_else_the_error_carries() -> None:
    error = errors.Overloaded("full")
    error.retry_after_s = 7.0
    placed = error.at("prompt")
    assert isinstance(placed, errors.Overloaded)
    assert placed.retry_after_s == 7.0


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (errors.InvalidRequest, 400, "invalid_request"),
        (errors.ForeignOrigin, 403, "invalid_request"),
        (errors.Unauthorized, 401, "unauthorized"),
        (errors.TooLarge, 413, "too_large"),
        (errors.UnsupportedMediaType, 415, "unsupported_media_type"),
        (errors.InvalidImage, 422, "invalid_image"),
        (errors.FetchFailed, 422, "fetch_failed"),
        (errors.TooManyRequests, 429, "overloaded"),
        (errors.Overloaded, 503, "overloaded"),
        (errors.InvalidModelReply, 502, "invalid_model_reply"),
        (errors.ModelUnavailable, 502, "model_unavailable"),
        (errors.DeadlineExceeded, 504, "timeout"),
        (errors.InternalError, 500, "internal"),
        (errors.DeviceOutOfMemory, 500, "internal"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
def test_statuses_and_codes_are_the_published_ones(kind: type[errors.GensegError], status: int, code: str) -> None:
    assert (kind.status, kind.code) == (status, code)
