"""Progress: the figures of a job."""

from __future__ import annotations

import pytest

from serve_app.batch.progress import Meter, hours


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_line_tells_rows_rates_and_the_time_left() -> None:
    clock = Clock()
    meter = Meter(100, before=20, clock=clock)
    assert meter.line() == "20/120 rows, 0.0 images/s, time left unknown"
    for number in range(10):
        clock.now += 1
        meter.count(images=3, failed=number == 0)
    assert meter.line() == "30/120 rows, 1 failed, 2.7 images/s, 0:01:30 left"


def test_line_follows_the_rate_of_the_last_minute() -> None:
    clock = Clock()
    meter = Meter(1000, clock=clock)
    for _ in range(100):
        clock.now += 10
        meter.count(images=1, failed=False)
    for _ in range(100):
        clock.now += 1
        meter.count(images=1, failed=False)
    assert ", 1.0 images/s, " in meter.line()
    assert meter.images_per_s == pytest.approx(200 / 1100)


def test_stop_lets_the_clock_stand_still() -> None:
    clock = Clock()
    meter = Meter(1, clock=clock)
    clock.now += 2
    meter.count(images=4, failed=False)
    meter.stop()
    clock.now += 100
    assert (meter.seconds, meter.images_per_s) == (2, 2)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (59.6, "0:01:00"), (3725, "1:02:05"), (360000, "100:00:00")]
)
def test_hours_writes_a_duration(seconds: float, text: str) -> None:
    assert hours(seconds) == text
