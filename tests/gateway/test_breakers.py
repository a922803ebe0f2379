"""Circuit breakers: what fails again and again is left alone, and one request looks whether it is back."""

import pytest

from slipway.domain.errors import EngineRefused, EngineTimeout, EngineUnreachable
from slipway.gateway.breakers import LONGEST_OPEN_S, MOST_BREAKERS, Breakers, Upstream

ENGINE, ADDRESS = "fast", "http://10.0.0.1"
DOWN = EngineUnreachable(ENGINE, ADDRESS, "Connection refused")
ERROR = EngineRefused(ENGINE, 500, "out of memory")
LIMITED = EngineRefused(ENGINE, 429, "slow down", retry_after_s=30.0)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breakers(clock):
    return Breakers(in_a_row=5, open_s=5.0, clock=clock)


def fail(breakers, times, failure=ERROR, model="ok"):
    """Asks and fails, as often as it is let; returns how often that was."""
    asked = 0
    for _ in range(times):
        if breakers.admit(ENGINE, ADDRESS, model) is None:
            asked += 1
            breakers.failed(ENGINE, ADDRESS, model, failure)
    return asked


def test_after_five_failures_in_a_row_nobody_is_asked(breakers):
    assert fail(breakers, 60) == 5
    refusal = breakers.admit(ENGINE, ADDRESS, "ok")
    assert refusal.kind == "server_error"
    assert refusal.retry_after_s == 5.0
    assert "out of memory" in str(refusal)
    assert breakers.state(Upstream(ENGINE, ADDRESS, "ok")) == "open"


def test_a_success_in_between_starts_the_count_again(breakers):
    for _ in range(6):
        assert fail(breakers, 4) == 4
        for _ in range(8):
            breakers.succeeded(ENGINE, ADDRESS, "ok")


def test_half_of_many_calls_open_it_too(breakers):
    asked = 0
    while asked < 60 and breakers.admit(ENGINE, ADDRESS, "ok") is None:
        asked += 1
        if asked % 2:
            breakers.failed(ENGINE, ADDRESS, "ok", ERROR)
        else:
            breakers.succeeded(ENGINE, ADDRESS, "ok")
    assert 20 <= asked < 60


def test_one_probe_at_a_time_closes_it_or_opens_it_for_longer(breakers, clock):
    fail(breakers, 5)
    clock.now += 5
    assert breakers.state(Upstream(ENGINE, ADDRESS, "ok")) == "half-open"
    assert breakers.admit(ENGINE, ADDRESS, "ok") is None
    assert breakers.admit(ENGINE, ADDRESS, "ok") is not None
    breakers.failed(ENGINE, ADDRESS, "ok", ERROR)
    clock.now += 9
    assert breakers.admit(ENGINE, ADDRESS, "ok") is not None
    clock.now += 1
    assert breakers.admit(ENGINE, ADDRESS, "ok") is None
    breakers.succeeded(ENGINE, ADDRESS, "ok")
    assert breakers.state(Upstream(ENGINE, ADDRESS, "ok")) == "closed"
    assert fail(breakers, 60) == 5


def test_the_pause_doubles_up_to_a_minute(breakers, clock):
    fail(breakers, 5)
    pauses = []
    for _ in range(6):
        pause = breakers.admit(ENGINE, ADDRESS, "ok").retry_after_s
        pauses.append(pause)
        clock.now += pause
        assert fail(breakers, 1) == 1
    assert pauses == [5, 10, 20, 40, LONGEST_OPEN_S, LONGEST_OPEN_S]


def test_a_probe_whose_client_leaves_lets_the_next_one_look(breakers, clock):
    fail(breakers, 5)
    clock.now += 5
    assert breakers.admit(ENGINE, ADDRESS, "ok") is None
    breakers.abandoned(ENGINE, ADDRESS, "ok")
    assert breakers.admit(ENGINE, ADDRESS, "ok") is None


def test_an_error_of_one_model_says_nothing_about_the_others(breakers):
    fail(breakers, 60)
    assert breakers.admit(ENGINE, ADDRESS, "other") is None


@pytest.mark.parametrize("failure", [DOWN, EngineTimeout(ENGINE, "connection", 5.0)], ids=["refused", "no connection"])
def test_an_address_that_cannot_be_reached_is_dead_for_all_models(breakers, failure):
    fail(breakers, 60, failure)
    assert breakers.admit(ENGINE, ADDRESS, "other") is not None
    assert breakers.admit(ENGINE, "http://10.0.0.2", "ok") is None


def test_an_error_from_an_address_shows_that_it_lives(breakers, clock):
    fail(breakers, 5, DOWN)
    clock.now += 5
    assert fail(breakers, 1, ERROR) == 1
    assert breakers.admit(ENGINE, ADDRESS, "ok") is None


def test_a_limit_rests_the_model_without_opening_anything(breakers, clock):
    for _ in range(10):
        breakers.limited(ENGINE, ADDRESS, "ok", LIMITED, rest_s=30)
    assert breakers.resting(ENGINE, ADDRESS, "ok").kind == "rate_limit"
    assert breakers.admit(ENGINE, ADDRESS, "ok") is None
    clock.now += 30
    assert breakers.resting(ENGINE, ADDRESS, "ok") is None


def test_switched_off_it_lets_everything_through(clock):
    assert fail(Breakers(in_a_row=0, clock=clock), 60) == 60


def test_what_is_well_again_is_forgotten_and_clients_cannot_fill_the_memory(breakers, clock):
    fail(breakers, 1)
    clock.now += 31
    breakers.succeeded(ENGINE, ADDRESS, "ok")
    assert not breakers
    for number in range(MOST_BREAKERS + 50):
        breakers.failed(ENGINE, ADDRESS, f"invented-{number}", ERROR)
    assert len(breakers.health()) == MOST_BREAKERS


def test_breakers_that_are_switched_off_while_one_is_open_let_everything_through(breakers, clock):
    assert fail(breakers, 5) == 5
    clock.now += 6
    assert breakers.admit(ENGINE, ADDRESS, "ok") is None  # one is sent to look
    breakers.in_a_row = 0
    breakers.failed(ENGINE, ADDRESS, "ok", ERROR)
    assert fail(breakers, 20) == 20
    assert breakers.health() == []


def cut_off(breakers, times):
    """Streams that begin and break off, as often as they are let; returns how often that was."""
    begun = 0
    for _ in range(times):
        if breakers.admit(ENGINE, ADDRESS, "ok") is None:
            begun += 1
            breakers.succeeded(ENGINE, ADDRESS, "ok")
            breakers.streamed(ENGINE, ADDRESS, "ok", DOWN)
    return begun


def test_an_engine_that_breaks_off_every_stream_is_left_alone(breakers, clock):
    assert cut_off(breakers, 60) == 5
    clock.now += 6
    assert cut_off(breakers, 60) == 1
    clock.now += 6
    breakers.succeeded(ENGINE, ADDRESS, "ok")
    breakers.streamed(ENGINE, ADDRESS, "ok", None)
    assert cut_off(breakers, 4) == 4
    assert breakers.state(Upstream(ENGINE, ADDRESS, "ok")) == "closed"


def test_a_stream_that_comes_to_its_end_starts_the_count_again(breakers, clock):
    for _ in range(6):
        assert cut_off(breakers, 4) == 4
        clock.now += 60
        breakers.succeeded(ENGINE, ADDRESS, "ok")
        breakers.streamed(ENGINE, ADDRESS, "ok", None)
    breakers.in_a_row = 0
    assert cut_off(breakers, 60) == 60
