"""The ingress without its graph: what it says when it is full, and what a new configuration does to its fetcher."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from serve_app.config.schema import AppConfig, FetchConfig, ServingConfig
from serve_app.config.user_config import IngressSettings
from serve_app.errors import (
    DeploymentUnavailable,
    GensegError,
    InternalError,
    InvalidImage,
    Overloaded,
    ReplicaDied,
    TooManyRequests,
)
from serve_app.serving.fetch import ImageFetcher
from serve_app.serving.ingress import Ingress, NoTracebackOfRefusals


def ingress(config: AppConfig) -> Any:
    """An ingress whose handles are not there."""
    made: Any = Ingress.__new__(Ingress)
    made._args = made.config = config
    made._stopping, made._running = False, 0
    made._parser = made._segmenter = SimpleNamespace(caller=SimpleNamespace())
    made._fetcher = ImageFetcher(config.fetch, config.limits.max_image_bytes)
    return made


@pytest.mark.parametrize(("admitted", "words"), [(1, "1 request"), (2, "2 requests")])
def test_a_full_ingress_counts_in_right_words(admitted: int, words: str) -> None:
    full = ingress(AppConfig(serving=ServingConfig(max_concurrent_requests=admitted)))
    full._running = admitted
    with (
        pytest.raises(TooManyRequests, match=f"^the service is busy with {words}, its limit; try again later$"),
        full.admitted(),
    ):
        pass


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        ("a model", []),
        (Overloaded("the parser's queues are full"), []),
        (DeploymentUnavailable("the parser is not available"), ["text_parser"]),
        (ReplicaDied("a replica died"), ["text_parser"]),
    ],
    ids=["answers", "full", "failed to deploy", "died"],
)
async def test_a_model_is_ready_if_it_answers_or_only_its_queues_are_full(
    answer: str | GensegError, missing: list[str]
) -> None:
    async def parser() -> str:
        if isinstance(answer, GensegError):
            raise answer
        return answer

    async def segmenter() -> str:
        return "another model"

    running = ingress(AppConfig())
    running._parser, running._segmenter = SimpleNamespace(model_name=parser), SimpleNamespace(model_name=segmenter)
    assert await running.missing() == missing


def test_a_changed_fetch_section_retires_the_fetcher_that_it_replaces() -> None:
    running = ingress(AppConfig())
    first = running._fetcher
    running._apply(IngressSettings(serving=ServingConfig(timeout_s=5)))
    assert running._fetcher is first
    running._apply(IngressSettings(fetch=FetchConfig(timeout_s=5)))
    assert running._fetcher is not first
    assert first._retired
    assert not running._fetcher._retired


@pytest.mark.parametrize(
    ("error", "kept"),
    [(InvalidImage("generated_image: empty"), False), (InternalError("unexpected"), True), (ValueError("x"), True)],
)
def test_serve_logs_no_traceback_of_what_a_caller_did_wrong(error: Exception, kept: bool) -> None:
    record = logging.LogRecord("ray.serve", logging.ERROR, "", 1, "Request failed.", (), (type(error), error, None))
    assert NoTracebackOfRefusals().filter(record) is kept
    assert NoTracebackOfRefusals().filter(logging.LogRecord("ray.serve", logging.INFO, "", 1, "line", (), None))


async def test_a_request_of_a_handle_is_one_line_with_its_status(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ray.serve"), pytest.raises(GensegError, match="thresold: unknown field"):
        await ingress(AppConfig()).segment({"thresold": 1})
    (line,) = caplog.messages
    assert " HANDLE segment 400: " in line
    assert "thresold" not in line
