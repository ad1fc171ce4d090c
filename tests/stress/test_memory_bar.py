"""The arithmetic of the memory limit."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.stress.memory_bar import Reading, faults, mib_per_10_000

INGRESS = "ray::ServeReplica:segmentation:Ingress 7"


def readings(mib: Sequence[float], step: int = 2_500, fds: int = 70) -> list[Reading]:
    """Readings every `step` requests."""
    return [Reading(step * number, value, fds) for number, value in enumerate(mib)]


@pytest.mark.parametrize(
    ("mib", "slope"),
    [
        pytest.param([100.0] * 9, 0.0, id="level"),
        pytest.param([100.0 + number for number in range(9)], 4.0, id="1 MiB in 2,500 requests"),
        pytest.param([100, 104, 107, 109, 110, 110, 110, 110, 110], 0.0, id="growth that ends in the first half"),
        pytest.param([100, 100, 100, 100, 100, 101, 102, 103, 104], 4.0, id="growth that starts in the second half"),
        pytest.param([100, 100, 100, 100, 100, 100, 104, 100, 100], 0.0, id="a buffer that is kept for a while"),
        pytest.param([100, 100, 100, 100, 106, 104, 102, 100, 98], -8.0, id="memory that goes back"),
    ],
)
def test_the_slope_is_that_of_the_second_half_in_10_000_requests(mib: list[float], slope: float) -> None:
    assert mib_per_10_000(readings(mib)) == pytest.approx(slope)


def test_the_halves_are_of_the_requests_not_of_the_readings() -> None:
    uneven = [Reading(requests, mib, 70) for requests, mib in [(0, 100), (100, 105), (200, 110), (10_000, 110)]]
    uneven.append(Reading(20_000, 112, 70))
    assert mib_per_10_000(uneven) == pytest.approx(2.0)


def test_the_warm_up_before_the_first_reading_does_not_count() -> None:
    late = [Reading(50_000 + reading.requests, reading.mib, 70) for reading in readings([100, 108, 110, 110, 110])]
    assert mib_per_10_000(late) == pytest.approx(0.0)


def test_one_reading_in_the_second_half_has_no_slope() -> None:
    with pytest.raises(ValueError, match="two readings"):
        mib_per_10_000([Reading(0, 100, 70), Reading(1_000, 100, 70)])


@pytest.mark.parametrize(
    ("name", "rise", "new_fds", "said"),
    [
        pytest.param(INGRESS, 0.24, 0, [], id="under the bar"),
        pytest.param(INGRESS, 0.26, 0, ["1.04 MiB more in 10,000 requests"], id="over the bar"),
        pytest.param("ray::ProxyActor 8", 0.26, 0, ["1.04 MiB more"], id="the proxy over the bar"),
        pytest.param("ray::ServeController 9", 0.26, 0, ["1.04 MiB more"], id="the controller over the bar"),
        pytest.param(INGRESS, 0.0, 9, ["9 more file descriptors"], id="file descriptors over the bar"),
        pytest.param(INGRESS, 0.26, 9, ["1.04 MiB more", "9 more file descriptors"], id="both over the bar"),
        pytest.param("raylet 4", 4.0, 9, [], id="a daemon of Ray"),
    ],
)
def test_faults_name_the_process_and_what_is_over(name: str, rise: float, new_fds: int, said: list[str]) -> None:
    risen = readings([100 + rise * number for number in range(9)])
    risen[-1] = Reading(risen[-1].requests, risen[-1].mib, 70 + new_fds)
    found = faults(name, risen)
    assert len(found) == len(said)
    assert all(fault.startswith(name) and part in fault for fault, part in zip(found, said, strict=True))
