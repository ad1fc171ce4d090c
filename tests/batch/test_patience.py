"""Retries: a full service is asked again, a lost service ends the job, and no answered request is sent again."""

from __future__ import annotations

import pytest

from serve_app.batch.patience import Patient, ServiceAway, ServiceLost
from serve_app.errors import GensegError, InvalidImage, ModelUnavailable, Overloaded, TooManyRequests
from serve_app.schemas.dicts import ResultDict
from serve_app.schemas.requests import SegmentRequest
from tests.documents import result


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.sleeps.append(seconds)


def answer_to(request: SegmentRequest) -> ResultDict:
    return result(request.prompt, ["dog"])


class Refusing:
    """Raises these errors in turn and repeats the last one; None stands for a successful answer."""

    def __init__(self, *errors: GensegError | None) -> None:
        self.errors = errors
        self.calls = 0

    async def __call__(self, request: SegmentRequest) -> ResultDict:
        error = self.errors[min(self.calls, len(self.errors) - 1)]
        self.calls += 1
        if error is not None:
            raise error
        return answer_to(request)


def full(retry_after_s: float) -> TooManyRequests:
    error = TooManyRequests("full")
    error.retry_after_s = retry_after_s
    return error


REQUEST = SegmentRequest(prompt="dog")


async def test_patient_asks_a_full_service_again_after_its_pause() -> None:
    clock, service = Clock(), Refusing(full(4.0), full(4.0), None)
    assert await Patient(service, sleep=clock.sleep, clock=clock)(REQUEST) == answer_to(REQUEST)
    assert service.calls == 3
    assert 2.0 <= clock.sleeps[0] <= 4.0
    assert 3.0 <= clock.sleeps[1] <= 6.0


def unanswered() -> ModelUnavailable:
    error = ModelUnavailable("the text model's server cannot be reached")
    error.retry_after_s = 0.0
    return error


async def test_patient_waits_for_a_parser_s_server_that_does_not_answer() -> None:
    clock, service = Clock(), Refusing(unanswered(), unanswered(), None)
    assert await Patient(service, sleep=clock.sleep, clock=clock)(REQUEST) == answer_to(REQUEST)
    assert all(pause >= 0.25 for pause in clock.sleeps)

    clock, service = Clock(), Refusing(unanswered())
    with pytest.raises(ModelUnavailable):
        await Patient(service, away_for_s=60, sleep=clock.sleep, clock=clock)(REQUEST)
    assert 60 < clock.now < 80


async def test_patient_does_not_ask_a_parser_s_server_again_that_refuses() -> None:
    clock, service = Clock(), Refusing(ModelUnavailable("refused the call"))
    with pytest.raises(ModelUnavailable):
        await Patient(service, sleep=clock.sleep, clock=clock)(REQUEST)
    assert service.calls == 1


async def test_patient_gives_a_row_up_after_its_time() -> None:
    clock, service = Clock(), Refusing(Overloaded("full"))
    with pytest.raises(Overloaded):
        await Patient(service, full_for_s=100, sleep=clock.sleep, clock=clock)(REQUEST)
    assert 100 < clock.now < 120
    assert max(clock.sleeps) <= 15.0


async def test_patient_waits_for_a_service_that_comes_back() -> None:
    clock, service = Clock(), Refusing(ServiceAway("died"), None)
    assert await Patient(service, sleep=clock.sleep, clock=clock)(REQUEST) == answer_to(REQUEST)


async def test_patient_ends_the_job_when_the_service_stays_away() -> None:
    clock, service = Clock(), Refusing(ServiceAway("died"))
    with pytest.raises(ServiceLost, match="does not answer any more: died"):
        await Patient(service, away_for_s=30, sleep=clock.sleep, clock=clock)(REQUEST)
    assert 30 < clock.now < 50


async def test_patient_passes_an_answer_on_at_once() -> None:
    clock, service = Clock(), Refusing(InvalidImage("no image"))
    with pytest.raises(InvalidImage):
        await Patient(service, sleep=clock.sleep, clock=clock)(REQUEST)
    assert (service.calls, clock.sleeps) == (1, [])
