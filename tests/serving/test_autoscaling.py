"""How many replicas the work of the running ones asks for."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray import cloudpickle

from serve_app.serving import autoscaling
from serve_app.serving.autoscaling import CALLS_S, LEAST_S, MOST_S, QUEUED_S, THREADS_S, Load, WorkPolicy
from serve_app.serving.autoscaling import replicas_needed as needed

LIMITS = {"grow_at": 0.7, "shrink_at": 0.5}
NOW = 1_800_000_000.0


def known(*loads: float) -> list[Load | None]:
    return [Load(load, load) for load in loads]


DECISIONS: dict[str, tuple[list[Load | None], int, int]] = {
    "a full replica gets another one beside it": (known(1.0), 1, 2),
    "what waits counts as work": (known(1.0 + 2.0), 1, 5),
    "a quiet one stays": (known(0.1), 1, 1),
    "between the limits it stays": (known(0.6, 0.6), 2, 2),
    "above the limit it grows": (known(0.71, 0.71), 2, 3),
    "one of many that is full has help": (known(1.0, 0.2, 0.2), 3, 3),
    "below the limit it shrinks": (known(0.3, 0.3, 0.3), 3, 2),
    "as far as the others stay below it": (known(0.1, 0.1, 0.1, 0.1), 4, 1),
    "without work it shrinks to the bound": (known(0.0, 0.0), 2, 0),
    "nothing known": ([], 3, 3),
    "no replica has reported": ([None, None], 2, 2),
    "one has not reported, so it does not shrink": ([Load(0, 0), None], 2, 2),
    "one has not reported, but the other is full": ([Load(3, 3), None], 2, 5),
    "others are starting, and it shrinks nevertheless": (known(0.1), 4, 1),
    "others are starting, and the one is full": (known(0.9), 4, 4),
    "others are starting, and more are needed": (known(3.0), 2, 5),
    "may have room: it neither grows": ([Load(0.2, 1.0), Load(0.2, 1.0)], 2, 2),
    "nor shrinks": ([Load(0.1, 0.6), Load(0.1, 0.6)], 2, 2),
    "has room for sure": ([Load(0.1, 0.2), Load(0.1, 0.2)], 2, 1),
}


@pytest.mark.parametrize(("loads", "target", "expected"), DECISIONS.values(), ids=DECISIONS)
def test_the_work_of_the_running_replicas_decides(loads: list[Load | None], target: int, expected: int) -> None:
    assert needed(loads, target, **LIMITS) == expected


def test_one_replica_stays_while_somebody_waits() -> None:
    """Such as a segmenter's calls whose prompts are being parsed: it has no work yet."""
    assert needed(known(0.0), 1, **LIMITS, ongoing=5) == 1


@given(load=st.floats(0.01, 50), before=st.integers(1, 60))
def test_the_same_load_on_the_new_number_never_turns_it_back(load: float, before: int) -> None:
    after = needed(known(*[load / before] * before), before, **LIMITS)
    then = needed(known(*[load / after] * after), after, **LIMITS)
    assert then <= after if after < before else then >= after


@given(st.lists(st.floats(0, 4) | st.none(), max_size=8), st.integers(1, 12))
def test_a_replica_without_a_report_never_costs_one(loads: list[float | None], target: int) -> None:
    reports = [None if load is None else Load(load, load) for load in loads]
    if None in reports:
        assert needed(reports, target, **LIMITS) >= target


@dataclass
class Context:
    """Stands for Ray's AutoscalingContext: samples by replica and name, 6 s apart, the last one `age_s` old."""

    samples: dict[str, dict[str, list[float]]]
    target_num_replicas: int = 1
    age_s: float = 1.0
    total_num_requests: float = 0.0
    current_time: float = NOW
    config: Any = field(default_factory=lambda: SimpleNamespace(look_back_period_s=30.0, metrics_interval_s=10.0))

    @property
    def running_replicas(self) -> list[str]:
        return [*self.samples]

    @property
    def raw_metrics(self) -> dict[str, dict[str, list[Any]]]:
        found: dict[str, dict[str, list[Any]]] = {}
        for replica, series in self.samples.items():
            for name, values in series.items():
                times = [NOW - self.age_s - 6.0 * back for back in range(len(values))][::-1]
                points = [SimpleNamespace(timestamp=at, value=value) for at, value in zip(times, values, strict=True)]
                found.setdefault(name, {})[replica] = points
        return found


def busy(share: float, queued_s: float = 0.0, start: float = 100.0) -> dict[str, list[float]]:
    """Five reports of a replica that worked for a share of the time."""
    sums = [start + share * 6.0 * index for index in range(5)]
    return {LEAST_S: sums, MOST_S: sums, QUEUED_S: [queued_s] * 5}


REPORTS: dict[str, tuple[dict[str, dict[str, list[float]]], int, int]] = {
    "idle": ({"a": busy(0), "b": busy(0)}, 2, 0),
    "as busy as it should be": ({"a": busy(0.65)}, 1, 1),
    "full": ({"a": busy(1)}, 1, 2),
    "work of a minute waits": ({"a": busy(1, queued_s=60)}, 1, 5),
    "threads are full, the device is not": ({"a": {**busy(0.1), THREADS_S: [0, 6, 12, 18, 24]}}, 1, 2),
    "64 calls to a server": ({"a": {CALLS_S: [384.0 * index for index in range(5)]}}, 1, 3),
    "8 calls to a server": ({"a": {CALLS_S: [48.0 * index for index in range(5)]}}, 1, 1),
    "one report is no share yet": ({"a": {LEAST_S: [100.0], MOST_S: [100.0]}}, 3, 3),
    "an older version reports nothing": ({"a": {}, "b": busy(0)}, 2, 2),
    "names of another version": ({"a": {"busy": [1, 2, 3]}}, 2, 2),
}


def decided(context: Any) -> int:
    wanted, state = WorkPolicy()(context)
    assert state == {}
    return wanted


@pytest.mark.parametrize(("samples", "target", "expected"), REPORTS.values(), ids=REPORTS)
def test_reports_become_shares_of_the_time(
    samples: dict[str, dict[str, list[float]]], target: int, expected: int
) -> None:
    assert decided(Context(samples, target)) == expected


def test_it_does_not_matter_how_often_a_replica_reports() -> None:
    often = {LEAST_S: [0.0, 6.0], MOST_S: [0.0, 6.0]}
    assert decided(Context({"a": often})) == decided(Context({"a": busy(1)}))


@pytest.mark.parametrize(("age_s", "expected"), [(49, 1), (51, 2)])
def test_a_report_that_is_too_old_says_nothing(age_s: float, expected: int) -> None:
    """A replica whose event loop hangs reports no more; Ray keeps its last report."""
    context = Context({"a": busy(0), "b": busy(0)}, target_num_replicas=2, age_s=age_s, total_num_requests=1)
    assert decided(context) == expected


def test_without_replicas_the_target_stays() -> None:
    assert decided(Context({}, target_num_replicas=2)) == 2


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"grow_at": 0}, "grow_at must be a number above 0, got 0"),
        ({"grow_at": "0.7"}, "grow_at must be a number above 0, got '0.7'"),
        ({"grow_at": 1.5}, "grow_at must be at most 1, got 1.5"),
        ({"shrink_at": 0.7}, "shrink_at must be below grow_at (0.7), got 0.7"),
        ({"drain_s": float("inf")}, "drain_s must be a number above 0, got inf"),
        ({"calls": True}, "calls must be a number above 0, got True"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=re.escape(fault)):
        WorkPolicy(**arguments)


def test_the_policy_reaches_the_controller_without_this_package() -> None:
    """Ray sends a policy's module by value to the controller."""
    cloudpickle.register_pickle_by_value(autoscaling)
    try:
        sent = cloudpickle.dumps(WorkPolicy)
    finally:
        cloudpickle.unregister_pickle_by_value(autoscaling)
    code = (
        "import pickle, sys; policy = pickle.loads(bytes.fromhex(sys.argv[1]))(grow_at=0.9);"
        "print({'serve_app', 'torch', 'transformers', 'PIL', 'fastapi'} & sys.modules.keys())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, sent.hex()], check=True, timeout=60, cwd="/", capture_output=True, text=True
    )
    assert run.stdout == "set()\n"
