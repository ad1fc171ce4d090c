"""When a replica's model counts as broken."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from serve_app.errors import DeviceOutOfMemory, InternalError, InvalidRequest
from serve_app.serving.replica.health import MAX_FAILURES, ModelHealth

NONSENSE = InternalError("not numbers")


def after(*batches: Sequence[object]) -> ModelHealth:
    health = ModelHealth()
    for outcomes in batches:
        health.note(outcomes)
    return health


@pytest.mark.parametrize(
    "batches",
    [
        [],
        [[NONSENSE]] * (MAX_FAILURES - 1),
        [[NONSENSE]] * (MAX_FAILURES - 1) + [["fine"]] + [[NONSENSE]] * (MAX_FAILURES - 1),
        [[NONSENSE, "fine"]] * 10,
        [[DeviceOutOfMemory("too large")], [InvalidRequest("too long")]] * 10,
        [[]] * 10,
    ],
    ids=["nothing", "too few", "not in a row", "not all", "the request's own fault", "empty batches"],
)
def test_check_lets_a_working_model_live(batches: list[Sequence[object]]) -> None:
    after(*batches).check()


@pytest.mark.parametrize("failure", [NONSENSE, RuntimeError("CUDA error")], ids=["nonsense", "foreign"])
def test_check_fails_after_a_row_of_failures(failure: Exception) -> None:
    with pytest.raises(RuntimeError, match=f"failed {MAX_FAILURES} times in a row, last: {failure}"):
        after(*[[failure]] * MAX_FAILURES).check()
