"""The API's own description against the running service: generated requests get answers that it describes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from tests.graph.conftest import Graph

ROUTES = {"/v1/segment", "/v1/entities", "/healthz", "/readyz"}
CHECKS = [status_code_conformance, response_schema_conformance]


def operations(url: str) -> Iterator[schemathesis.APIOperation[Any, Any, Any, Any]]:
    """Every operation of the running service's description."""
    for result in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations():
        assert isinstance(result, Ok), result.err()
        yield result.ok()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("route", sorted(ROUTES))
def test_generated_requests_get_the_described_answers(graph: Graph, route: str) -> None:
    (operation,) = [operation for operation in operations(graph.url) if operation.path == route]

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(case=operation.as_strategy())
    def check(case: schemathesis.Case[Any]) -> None:
        answer = case.call_and_validate(checks=CHECKS, timeout=60)
        # 502 is a right answer: to a prompt of noise the small parser may reply with no list.
        assert answer.status_code not in {500, 503}

    check()


def test_the_description_names_every_route(graph: Graph) -> None:
    assert set(httpx.get(f"{graph.url}/openapi.json").json()["paths"]) == ROUTES
