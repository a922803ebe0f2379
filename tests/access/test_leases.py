"""Blocks of limits that workers hold: no limit is passed by all together, and nothing is lost on the way."""

import itertools
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.access import counters
from slipway.access.budgets import Meter
from slipway.access.counters import ALL, UNSETTLED, Counters
from slipway.access.leases import Account, Leases
from slipway.access.limits import Allowance, RateLimiter
from slipway.domain.access import Limits
from slipway.domain.errors import OverLimit
from slipway.store.store import Store

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Worker:
    """One worker's leases, with what a gateway does for a request."""

    def __init__(self, store: Store | None, table: Path | None, number: int, clock: Clock) -> None:
        self.counters = Counters(table, worker=number, clock=clock)
        self.meter = Meter(store, self.counters, flush_s=float("inf"), clock=clock, now=lambda: NOON)  # type: ignore[arg-type]
        # Known for this month, as after a first flush.
        self.meter._month, self.meter._flushed_at = 202611, float("inf")
        self.limiter = RateLimiter(self.counters, clock=clock)
        self.leases = Leases(self.limiter, self.meter, self.counters, clock=clock)

    def begin(self, *holders: Allowance, tokens: int = 0, micros: int = 0) -> Account:
        leases = tuple(map(self.leases.of, holders))
        account = Account(holders, leases)
        self.leases.enter(account, holders, leases)
        try:
            self.leases.reserve(account, tokens=tokens, micros=micros)
        except OverLimit:
            self.leases.release(account)
            raise
        return account

    def ask(self, *holders: Allowance, tokens: int = 0, micros: int = 0) -> bool:
        """One request that uses what was set aside for it; False where it is refused."""
        try:
            account = self.begin(*holders, tokens=tokens, micros=micros)
        except OverLimit:
            return False
        self.leases.settle(account, tokens=tokens, micros=micros)
        self.leases.save()
        self.leases.release(account)
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def crew(store: Store, tmp_path: Path, clock: Clock) -> Callable[[], Worker]:
    numbers = itertools.count()
    return lambda: Worker(store, tmp_path / "limits", next(numbers), clock)


def a_key(name: str = "shop", **limits: int) -> Allowance:
    return Allowance(holder=name, whose=f"key '{name}'", limits=Limits(**limits))


def ask_in_turn(workers: list[Worker], *holders: Allowance, **more: int) -> int:
    """Requests that pass until every worker refuses."""
    passed, at_work = 0, list(workers)
    while at_work:
        for worker in list(at_work):
            if worker.ask(*holders, **more):
                passed += 1
            else:
                at_work.remove(worker)
    return passed


@pytest.mark.parametrize("limit", [100, 20_000])
def test_workers_with_blocks_pass_a_limit_exactly(crew, limit):
    workers = [crew(), crew(), crew()]
    assert ask_in_turn(workers, a_key(requests_per_minute=limit)) == limit


@pytest.fixture
def asked(monkeypatch) -> list[int]:
    """One for each time that the table was asked."""
    asked: list[int] = []
    real = Counters.__enter__
    monkeypatch.setattr(Counters, "__enter__", lambda table: (asked.append(1), real(table))[1])
    return asked


@pytest.mark.parametrize("others", [0, 1])
def test_far_from_a_limit_hardly_any_request_asks_the_table(crew, asked, others):
    worker, key = crew(), a_key(requests_per_minute=10**6, tokens_per_minute=10**9, monthly_budget_micros=10**12)
    for _ in range(others):
        crew()
    asked.clear()
    for _ in range(1000):
        assert worker.ask(key, tokens=300, micros=50)
    assert len(asked) < 40


def test_near_a_limit_that_is_shared_every_request_asks_the_table(crew, asked):
    worker, key = crew(), a_key("small", requests_per_minute=100)
    crew()
    asked.clear()
    for _ in range(50):
        assert worker.ask(key, tokens=300)
    assert len(asked) >= 50


def test_a_worker_alone_seldom_asks_even_near_a_limit_and_keeps_it_all_the_same(crew, asked):
    worker, key = crew(), a_key("small", requests_per_minute=1000)
    asked.clear()
    for _ in range(500):
        assert worker.ask(key, tokens=300)
    assert len(asked) < 50
    assert ask_in_turn([worker], key, tokens=300) == 500


def test_who_was_alone_until_another_one_came_holds_back_nothing_for_long(crew, clock):
    one, key = crew(), a_key("small", requests_per_minute=100)
    for _ in range(10):
        assert one.ask(key)
    other = crew()
    passed = ask_in_turn([other], key)
    clock.now += 2
    one.leases.tick()
    assert passed + ask_in_turn([other, one], key) == 90


def test_no_budget_is_passed_and_all_of_it_can_be_spent(crew):
    workers, key = [crew(), crew()], a_key(monthly_budget_micros=1_000_000)
    passed = ask_in_turn(workers, key, a_key("project", monthly_budget_micros=10**9), micros=70)
    assert passed == 1_000_000 // 70
    for worker in workers:
        worker.leases.close()
        worker.meter.flush()
    used = workers[0].meter.store.spending.of("2026-11")
    assert used["shop"].micros == used["project"].micros == passed * 70
    assert used["shop"].requests == passed


def test_what_others_hold_comes_back_within_a_second(crew, clock):
    one, other, key = crew(), crew(), a_key(requests_per_minute=1000, monthly_budget_micros=10**9)
    assert one.ask(key, micros=10)
    clock.now += 1
    one.leases.tick()
    assert ask_in_turn([other], key, micros=10) == 999


def test_headers_tell_the_tightest_of_the_limits(crew):
    worker = crew()
    holders = a_key(requests_per_minute=10**6), a_key("project", requests_per_minute=10**5, tokens_per_minute=10**8)
    for number in range(1, 300):
        account = worker.begin(*holders, tokens=10)
        requests, tokens = account.remaining()
        assert requests is not None
        assert tokens is not None
        assert requests[:2] == (10**5, 10**5 - number)
        assert tokens[:2] == (10**8, 10**8 - 10 * number)
        worker.leases.settle(account, tokens=10, micros=0)


def test_tokens_are_corrected_in_the_second_they_were_counted_in(crew, clock):
    worker, key = crew(), a_key(tokens_per_minute=10**6)
    worker.ask(key, tokens=1)
    accounts = [worker.begin(key, tokens=100) for _ in range(50)]
    clock.now += 30
    for account in accounts:
        worker.leases.settle(account, tokens=300, micros=0)
    worker.leases.tick()
    assert worker.limiter.remaining([key])["tokens"].remaining == 10**6 - 50 * 300 - 1
    # They leave with their second, not with the one in which they were corrected.
    clock.now += 31
    assert worker.limiter.remaining([key])["tokens"].remaining == 10**6


def test_what_fails_gives_back_what_was_set_aside_for_it(crew, clock):
    worker, key = crew(), a_key(monthly_budget_micros=10**7, tokens_per_minute=10**6)
    for _ in range(3):
        worker.leases.release(worker.begin(key, tokens=500, micros=1000))
    worker.leases.close()
    assert worker.limiter.remaining([key])["tokens"].remaining == 10**6
    worker.meter.release(worker.meter.reserve([key], 10**7))


def test_what_is_used_twice_is_paid_twice(crew):
    worker, key = crew(), a_key(monthly_budget_micros=10**9)
    worker.ask(key, micros=10)
    account = worker.begin(key, micros=10)
    worker.leases.settle(account, tokens=1, micros=4)
    worker.leases.settle(account, tokens=2, micros=5)
    worker.leases.close()
    worker.meter.flush()
    found = worker.meter.store.spending.of("2026-11")["shop"]
    assert (found.micros, found.tokens, found.requests) == (19, 3, 2)


def test_a_key_without_limits_is_counted_all_the_same(crew):
    worker = crew()
    for _ in range(5):
        worker.ask(a_key(), tokens=0, micros=0)
    worker.leases.close()
    worker.meter.flush()
    assert worker.meter.store.spending.of("2026-11")["shop"].requests == 5


DIES = """
import sys
sys.path[:0] = [sys.argv[2]]
from pathlib import Path
from test_leases import Clock, Worker, a_key
worker, key = Worker(None, Path(sys.argv[1]), 0, Clock()), a_key(monthly_budget_micros=1_000_000)
for _ in range(400):
    assert worker.ask(key, tokens=3, micros=10)
worker.begin(key, micros=1000)
print("held", flush=True)
sys.stdin.readline()
"""


def test_a_killed_worker_leaves_what_it_spent_and_nothing_of_its_blocks(tmp_path, store, clock):
    other, key = Worker(store, tmp_path / "limits", 1, clock), a_key(monthly_budget_micros=1_000_000)
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", DIES, str(tmp_path / "limits"), str(Path(__file__).parent)]
    with subprocess.Popen(command, **pipes) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "held\n"
        worker.kill()
        worker.wait(30)
    other.meter.flush()
    assert store.spending.of("2026-11")["shop"].micros == 4000
    assert store.spending.of("2026-11")["shop"].tokens == 1200
    assert ask_in_turn([other], key, micros=1000) == 996


STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "begin", "end", "tick", "wait"]), st.integers(0, 2), st.integers(1, 40)),
    max_size=200,
)


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_whatever_happens_any_sixty_seconds_hold_at_most_the_limit(steps):
    clock = Clock()
    # One table for three workers of one process, each with numbers of its own.
    table = Counters(clock=clock)
    workers = []
    for _ in range(3):
        worker = Worker(None, None, 0, clock)
        worker.counters = worker.limiter._counters = worker.meter._counters = worker.leases._counters = table
        workers.append(worker)
    limit = 2000
    key, passed, open_ones = a_key(requests_per_minute=limit, tokens_per_minute=10**6), [], []
    for what, number, amount in steps:
        worker = workers[number]
        if what == "wait":
            clock.now += amount / 2
        elif what == "tick":
            worker.leases.tick()
        elif what == "end" and open_ones:
            account, owner = open_ones.pop()
            owner.leases.settle(account, tokens=amount, micros=0)
        elif what == "begin":
            try:
                open_ones.append((worker.begin(key, tokens=amount * 10), worker))
            except OverLimit:
                continue
            passed.append(int(clock.now))
        else:
            passed += [int(clock.now) for _ in range(amount * 10) if worker.ask(key, tokens=amount)]
    for start in set(passed):
        assert sum(start <= moment < start + 60 for moment in passed) <= limit
    for account, owner in open_ones:
        owner.leases.release(account)
    clock.now += 61
    for worker in workers:
        worker.leases.close()
    left = workers[0].limiter.remaining([key])
    assert (left["requests"].remaining, left["tokens"].remaining) == (limit, 10**6)


def test_the_end_of_a_month_divides_what_is_spent_and_counts_none_of_it_twice(store, clock, crew):
    workers, key = [crew(), crew()], a_key(monthly_budget_micros=10**6)
    month = [datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)]
    for worker in workers:
        worker.meter._now = lambda: month[0]
        worker.meter.flush()
    one, other = workers
    for _ in range(4):
        one.ask(key, micros=10)
    late = [one.begin(key, micros=100) for _ in range(3)]

    def end_one() -> None:
        one.leases.settle(late.pop(), tokens=1, micros=70)
        one.leases.save()

    month[0], clock.now = datetime(2026, 12, 1, tzinfo=UTC), clock.now + 1
    # One ends before anybody has asked in the new month, one after another worker has, the last one after its own has.
    end_one()
    other.ask(key, micros=10)
    end_one()
    one.ask(key, micros=10)
    end_one()
    clock.now += 1
    for worker in workers:
        worker.leases.tick()
        worker.meter.flush()
    old, new = (store.spending.of(period)["shop"] for period in ("2026-11", "2026-12"))
    assert (old.micros, old.requests) == (40 + 70 + 70, 6)
    assert (new.micros, new.requests) == (10 + 10 + 70, 3)
    # All of the rest can be spent, and nothing of it stays reserved.
    one.meter.release(one.meter.reserve([key], 10**6 - 90))
    row = one.counters.known_row("shop")
    assert row is not None
    assert list(one.counters.words[row + ALL : row + ALL + UNSETTLED]) == [0, 0, 1, 0]


def test_a_block_whose_row_was_given_away_takes_no_row_of_others(crew, clock, monkeypatch):
    monkeypatch.setattr(counters, "ROWS", 4)
    worker = crew()
    keys = [a_key(f"key {number}", requests_per_minute=10_000, tokens_per_minute=10**6) for number in range(12)]
    open_ones = []
    for key in keys:
        worker.ask(key, tokens=10)
        open_ones.append(worker.begin(key, tokens=10))
    held = [key for key in keys if worker.counters.known_row(key.holder) is not None]
    assert len(held) == 4
    clock.now += 2
    worker.leases.tick()
    for account in open_ones:
        worker.leases.settle(account, tokens=30, micros=0)
    worker.leases.tick()
    for key in held:
        left = worker.limiter.remaining([key])
        assert (left["requests"].remaining, left["tokens"].remaining) == (10_000 - 2, 10**6 - 40)


def test_money_is_counted_although_there_are_more_holders_than_rows(crew, clock, monkeypatch):
    monkeypatch.setattr(counters, "ROWS", 4)
    workers = [crew(), crew()]
    keys = [a_key(f"key {number}", monthly_budget_micros=10**9) for number in range(12)]
    for worker in workers * 3:
        open_ones = [worker.begin(key, micros=10) for key in keys]
        for account in open_ones:
            worker.leases.settle(account, tokens=1, micros=7)
        worker.leases.save()
        clock.now += 2
        worker.leases.tick()
        worker.meter.flush()
    used = workers[0].meter.store.spending.of("2026-11")
    assert [used[key.holder].micros for key in keys] == [6 * 7] * 12
    table = workers[0].counters
    for row in table._used():
        assert list(table.words[row + ALL : row + ALL + UNSETTLED]) == [0, 0, 0, 0]
