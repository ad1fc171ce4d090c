"""Which clusters have an autoscaler; the inputs are reports of Ray 2.60 for each kind of cluster."""

from __future__ import annotations

import json

import pytest

from serve_app.serving.gpus import shows_autoscaler

NODE = "e8de58bad5e6609836e85ff115280f05542a74f2abad86612ddfd444"


def status(*types: str) -> bytes:
    """What version 1 of the autoscaler writes, as far as it is read."""
    return json.dumps({"autoscaler_report": {"active_nodes": dict.fromkeys(types, 1), "legacy": True}}).encode()


@pytest.mark.parametrize(
    ("report", "instances", "expected"),
    [
        (None, [], False),
        (json.dumps({"autoscaler_report": None}).encode(), [], False),
        (status(f"node_{NODE}"), [""], False),
        (status("ray.head.default"), [""], True),
        (status(f"node_{NODE}", "gpu"), ["", ""], True),
        (None, ["genseg-head-abcde"], True),
    ],
    ids=["no Ray", "not reported yet", "ray start without a cluster file", "ray up", "ray up, grown", "version 2"],
)
def test_an_autoscaler_is_known_by_the_names_of_its_nodes(
    report: bytes | None, instances: list[str], expected: bool
) -> None:
    assert shows_autoscaler(report, instances) is expected
