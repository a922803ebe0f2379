"""Limits and budgets: exactly as much as was allowed, by the minute and by the month."""

from collections.abc import Callable
from datetime import UTC, datetime
from threading import Thread

import pytest

from slipway.access.budgets import Meter
from slipway.access.limits import RateLimiter
from slipway.domain.access import ApiKey, Limits
from slipway.domain.errors import OverLimit
from slipway.domain.ids import hash_text
from slipway.store.store import Store

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def a_key(name: str = "shop", **limits: int) -> ApiKey:
    return ApiKey(
        id=name, name=name, hash=hash_text(name), prefix="", scopes=("chat",), limits=Limits(**limits), created_at=NOON
    )


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_worth_passes_and_then_the_bucket_fills_evenly() -> None:
    clock = Clock()
    limiter, key = RateLimiter(clock=clock), a_key(requests_per_minute=60)
    for _ in range(60):
        limiter.take(key)
    with pytest.raises(OverLimit, match="60 requests a minute of key 'shop'") as caught:
        limiter.take(key)
    assert caught.value.http_status == 429
    assert caught.value.retry_after_s == pytest.approx(1.0)
    clock.now = 1.0
    limiter.take(key)
    with pytest.raises(OverLimit):
        limiter.take(key)
    clock.now = 1000.0
    for _ in range(60):
        limiter.take(key)
    with pytest.raises(OverLimit):
        limiter.take(key)


def test_400_at_once_from_many_threads_let_exactly_100_pass() -> None:
    limiter, key = RateLimiter(clock=lambda: 0.0), a_key(requests_per_minute=100)
    passed: list[int] = []

    def ask() -> None:
        for number in range(50):
            try:
                limiter.take(key)
            except OverLimit:
                continue
            passed.append(number)

    threads = [Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 100


def test_tokens_are_counted_before_and_after() -> None:
    clock = Clock()
    limiter, key = RateLimiter(clock=clock), a_key(tokens_per_minute=600, requests_per_minute=1000)
    limiter.take(key, tokens=100)
    limiter.add_tokens(key, 560)
    with pytest.raises(OverLimit, match="600 tokens a minute") as caught:
        limiter.take(key, tokens=10)
    assert caught.value.retry_after_s == pytest.approx(7.0)
    clock.now = 7.0
    limiter.take(key, tokens=10)


def test_a_request_that_is_refused_costs_nothing() -> None:
    limiter, key = RateLimiter(clock=lambda: 0.0), a_key(requests_per_minute=2, tokens_per_minute=10)
    limiter.take(key, tokens=8)
    with pytest.raises(OverLimit, match="tokens"):
        limiter.take(key, tokens=8)
    limiter.take(key, tokens=2)


def test_one_request_larger_than_a_minute_takes_the_whole_minute() -> None:
    limiter, key = RateLimiter(clock=lambda: 0.0), a_key(tokens_per_minute=10)
    limiter.take(key, tokens=1000)
    with pytest.raises(OverLimit):
        limiter.take(key, tokens=1)


def test_keys_do_not_share_and_workers_do() -> None:
    limiter = RateLimiter(clock=lambda: 0.0, share=0.5)
    for key in (a_key("a", requests_per_minute=10), a_key("b", requests_per_minute=10)):
        for _ in range(5):
            limiter.take(key)
        with pytest.raises(OverLimit):
            limiter.take(key)
    unlimited = a_key("c")
    for _ in range(1000):
        limiter.take(unlimited, tokens=10**9)


@pytest.fixture
def meter(store: Store) -> Callable[[], Meter]:
    """Meters as two workers would have them: each on its own, over one store."""
    return lambda: Meter(store, flush_s=0.0, clock=Clock(), now=lambda: NOON)


def test_a_budget_is_never_passed_by_what_was_reserved(meter: Callable[[], Meter]) -> None:
    book, key = meter(), a_key(monthly_budget_micros=1000)
    for _ in range(10):
        book.reserve(key, 100)
    with pytest.raises(OverLimit, match="monthly budget of key 'shop'") as caught:
        book.reserve(key, 1)
    # The rest of November.
    assert caught.value.retry_after_s == 8 * 86400 + 12 * 3600
    for _ in range(10):
        book.settle(key, reserved=100, micros=40, tokens=7)
    assert book.used(key).micros == 400
    assert (book.used(key).requests, book.used(key).tokens) == (10, 70)
    book.reserve(key, 600)
    with pytest.raises(OverLimit):
        book.reserve(key, 1)


def test_workers_see_each_others_spending(meter: Callable[[], Meter]) -> None:
    one, other, key = meter(), meter(), a_key(monthly_budget_micros=1000)
    one.reserve(key, 900)
    one.settle(key, reserved=900, micros=900)
    one.flush()
    with pytest.raises(OverLimit):
        other.reserve(key, 200)
    other.reserve(key, 100)
    other.settle(key, reserved=100, micros=100)
    other.flush()
    assert one.used(key).micros == 1000


def test_requests_a_month(meter: Callable[[], Meter]) -> None:
    book, key = meter(), a_key(monthly_requests=2)
    for _ in range(2):
        book.reserve(key, 0)
        book.settle(key, reserved=0, micros=0)
    with pytest.raises(OverLimit, match="2 requests a month"):
        book.reserve(key, 0)


def test_a_new_month_begins_at_zero(store: Store) -> None:
    now = [datetime(2026, 11, 30, 23, 59, tzinfo=UTC)]
    book, key = Meter(store, now=lambda: now[0]), a_key(monthly_budget_micros=100)
    book.reserve(key, 100)
    book.settle(key, reserved=100, micros=100)
    with pytest.raises(OverLimit):
        book.reserve(key, 1)
    now[0] = datetime(2026, 12, 1, tzinfo=UTC)
    book.reserve(key, 100)
    assert book.used(key).micros == 0
    assert store.spending.of("2026-11")["shop"].micros == 100


def test_a_store_that_fails_loses_no_spending(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    book, key = Meter(store, flush_s=1e9, now=lambda: NOON), a_key(monthly_budget_micros=1000)
    book.flush()
    book.settle(key, reserved=0, micros=7)

    def fail(*_: object) -> None:
        raise OSError("disk")

    with monkeypatch.context() as patched:
        patched.setattr(type(store.spending), "add", fail)
        with pytest.raises(OSError, match="disk"):
            book.flush()
    book.flush()
    assert store.spending.of("2026-11")["shop"].micros == 7
