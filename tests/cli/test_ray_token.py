"""The message names the missing token of a Ray cluster, whichever error Ray itself raises."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from serve_app.cli import ray_address, ray_session
from serve_app.cli.console import Progress
from serve_app.cli.options import CommandError


@contextmanager
def head(refuses_with: grpc.StatusCode | None) -> Iterator[str]:
    """A gRPC server that answers every call with nothing, or refuses it; yields its address."""

    def answer(_: bytes, context: Any) -> bytes:
        if refuses_with is not None:
            context.abort(refuses_with, "no")
        return b""

    class Every(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
        def service(self, _: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Every(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@pytest.mark.parametrize(
    ("refuses_with", "expected"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, True),
        (grpc.StatusCode.UNAVAILABLE, False),
        (grpc.StatusCode.UNIMPLEMENTED, False),
        (None, False),
    ],
    ids=str,
)
def test_asks_for_token_tells_by_the_answer(refuses_with: grpc.StatusCode | None, expected: bool) -> None:
    with head(refuses_with) as address:
        assert ray_address.asks_for_token(address) is expected


@pytest.mark.parametrize(
    ("refuses_with", "message"),
    [
        (
            grpc.StatusCode.UNAUTHENTICATED,
            r"asks for a token, and this environment has none or a wrong one; set RAY_AUTH_MODE",
        ),
        (grpc.StatusCode.UNAVAILABLE, r"no Ray cluster at .* to join: broken"),
    ],
    ids=["token", "other"],
)
def test_join_says_that_a_token_is_missing(
    monkeypatch: pytest.MonkeyPatch, refuses_with: grpc.StatusCode, message: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("broken")

    monkeypatch.setattr(ray_session, "_init", fail)
    with head(refuses_with) as address, pytest.raises(CommandError, match=message):
        ray_session.join(address, Progress(quiet=True), logs=False)
