"""Limits and budgets: exactly as much as was allowed, by the minute and by the month."""

import errno
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.access import counters
from slipway.access.budgets import Meter
from slipway.access.counters import Counters
from slipway.access.limits import Allowance, RateLimiter, Remaining
from slipway.domain.access import Limits
from slipway.domain.errors import DiskFull, OverLimit
from slipway.store.spending import SpendingBook, Used
from slipway.store.store import Store

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def a_key(name: str = "shop", **limits: int) -> list[Allowance]:
    return [Allowance(holder=name, whose=f"key '{name}'", limits=Limits(**limits))]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_no_minute_anywhere_holds_more_than_the_limit() -> None:
    clock = Clock()
    limiter, key = RateLimiter(clock=clock), a_key(requests_per_minute=60)
    for _ in range(20):
        limiter.take(key, requests=1)
    clock.now += 30
    for _ in range(40):
        limiter.take(key, requests=1)
    with pytest.raises(OverLimit, match="60 requests a minute of key 'shop'") as caught:
        limiter.take(key, requests=1)
    assert caught.value.http_status == 429
    # The first twenty become old one minute after they came.
    assert caught.value.retry_after_s == 30
    clock.now += 29
    with pytest.raises(OverLimit):
        limiter.take(key, requests=1)
    clock.now += 1
    for _ in range(20):
        limiter.take(key, requests=1)
    with pytest.raises(OverLimit):
        limiter.take(key, requests=1)
    clock.now += 10_000
    for _ in range(60):
        limiter.take(key, requests=1)
    with pytest.raises(OverLimit):
        limiter.take(key, requests=1)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60))
@settings(max_examples=25, deadline=None)
def test_whenever_requests_come_any_sixty_seconds_hold_at_most_the_limit(waits: list[int]) -> None:
    clock = Clock()
    limiter, key = RateLimiter(clock=clock), a_key(requests_per_minute=3)
    passed: list[float] = []
    for wait in waits:
        clock.now += wait
        for _ in range(3):
            try:
                limiter.take(key, requests=1)
            except OverLimit:
                continue
            passed.append(clock.now)
    for start in passed:
        assert sum(start <= moment < start + 60 for moment in passed) <= 3


def test_after_retry_after_a_request_passes() -> None:
    clock = Clock()
    limiter, key = RateLimiter(clock=clock), a_key(requests_per_minute=2)
    limiter.take(key, requests=2)
    with pytest.raises(OverLimit) as caught:
        limiter.take(key, requests=1)
    clock.now += caught.value.retry_after_s
    limiter.take(key, requests=1)


def test_400_at_once_from_many_threads_let_exactly_100_pass() -> None:
    limiter, key = RateLimiter(clock=lambda: 0.0), a_key(requests_per_minute=100)
    passed: list[int] = []

    def ask() -> None:
        for number in range(50):
            try:
                limiter.take(key, requests=1)
            except OverLimit:
                continue
            passed.append(number)

    threads = [Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 100


TAKER = """
import sys
from pathlib import Path
from slipway.access.counters import Counters
from slipway.access.limits import Allowance, RateLimiter
from slipway.domain.access import Limits
from slipway.domain.errors import DiskFull, OverLimit
limiter = RateLimiter(Counters(Path(sys.argv[1]), worker=int(sys.argv[2])), clock=lambda: 1000.0)
key = [Allowance(holder="shop", whose="key", limits=Limits(requests_per_minute=100))]
print("ready", flush=True)
sys.stdin.readline()
passed = 0
for _ in range(200):
    try:
        limiter.take(key, requests=1)
        passed += 1
    except OverLimit:
        pass
print(passed, flush=True)
"""


def test_400_at_once_from_two_processes_let_exactly_100_pass(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TAKER, str(tmp_path / "limits")]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    takers = [subprocess.Popen([*command, str(number)], **pipes) for number in range(2)]
    for taker in takers:
        assert taker.stdout is not None
        assert taker.stdout.readline() == "ready\n"
    for taker in takers:
        assert taker.stdin is not None
        taker.stdin.write("go\n")
        taker.stdin.flush()
    assert sum(int(taker.communicate(timeout=60)[0]) for taker in takers) == 100


def test_tokens_are_counted_before_and_corrected_after() -> None:
    clock = Clock()
    limiter, key = RateLimiter(clock=clock), a_key(tokens_per_minute=600, requests_per_minute=1000)
    at = limiter.take(key, requests=1, tokens=500)
    with pytest.raises(OverLimit, match="600 tokens a minute"):
        limiter.take(key, tokens=200)
    clock.now += 20
    limiter.correct(key, tokens=100, taken=500, at=at)
    limiter.take(key, tokens=200)
    assert limiter.remaining(key)["tokens"].remaining == 300
    assert limiter.remaining(key)["requests"].remaining == 999
    # What was corrected leaves with the second in which it was taken.
    clock.now += 40
    assert limiter.remaining(key)["tokens"].remaining == 400
    limiter.correct(key, tokens=50, taken=0, at=at)
    assert limiter.remaining(key)["tokens"].remaining == 350


def test_a_request_that_is_refused_costs_nobody_anything() -> None:
    limiter = RateLimiter(clock=lambda: 0.0)
    key, project = a_key(requests_per_minute=5, tokens_per_minute=10), a_key("project", requests_per_minute=2)
    limiter.take([*key, *project], requests=1, tokens=8)
    with pytest.raises(OverLimit, match="tokens"):
        limiter.take([*project, *key], requests=1, tokens=8)
    limiter.take([*key, *project], requests=1, tokens=2)
    with pytest.raises(OverLimit, match="key 'project'"):
        limiter.take([*key, *project], requests=1)
    assert limiter.remaining([*key, *project])["requests"] == Remaining(2, 0, 60)
    assert limiter.remaining(key)["requests"].remaining == 3


def test_one_request_larger_than_a_minute_takes_the_whole_minute() -> None:
    limiter, key = RateLimiter(clock=lambda: 0.0), a_key(tokens_per_minute=10)
    limiter.take(key, tokens=1000)
    with pytest.raises(OverLimit):
        limiter.take(key, tokens=1)


def test_keys_do_not_share_and_workers_do(tmp_path: Path) -> None:
    table = tmp_path / "limits"
    one, other = (RateLimiter(Counters(table, worker=number), clock=lambda: 0.0) for number in range(2))
    for key in (a_key("a", requests_per_minute=10), a_key("b", requests_per_minute=10)):
        for _ in range(5):
            one.take(key, requests=1)
            other.take(key, requests=1)
        for limiter in (one, other):
            with pytest.raises(OverLimit):
                limiter.take(key, requests=1)
    for _ in range(1000):
        one.take(a_key("c"), requests=1, tokens=10**9)


def test_a_full_table_gives_away_the_row_that_was_idle_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "ROWS", 3)
    clock = Clock()
    limiter = RateLimiter(Counters(clock=clock), clock=clock)
    for name in ("a", "b", "c", "d"):
        limiter.take(a_key(name, requests_per_minute=1), requests=1)
        clock.now += 1
    for name in ("b", "c", "d"):
        with pytest.raises(OverLimit):
            limiter.take(a_key(name, requests_per_minute=1), requests=1)
    limiter.take(a_key("a", requests_per_minute=1), requests=1)


def test_ten_thousand_holders_keep_their_limits_and_are_found_at_once(tmp_path: Path) -> None:
    one, other = (RateLimiter(Counters(tmp_path / "limits", worker=number), clock=lambda: 1.0) for number in range(2))
    keys = [a_key(f"person:{number:016x}", requests_per_minute=2) for number in range(10_000)]
    for limiter in (one, other):
        for key in keys:
            limiter.take(key, requests=1)
    for key in keys[::100]:
        with pytest.raises(OverLimit):
            one.take(key, requests=1)
    index = one._counters._index
    assert all(
        index.find(f"person:{number:016x}".encode().ljust(counters.LONGEST_HOLDER, b"\0")) for number in range(10_000)
    )


def test_rows_that_nobody_needs_any_more_are_used_again_before_the_table_grows() -> None:
    clock = Clock()
    limiter = RateLimiter(Counters(clock=clock), clock=clock)
    for hour in range(5):
        for number in range(200):
            limiter.take(a_key(f"{hour} {number}", requests_per_minute=1), requests=1)
        clock.now += 3600
    assert limiter._counters.words[counters.USED] < 300


def test_on_a_full_disk_the_table_gives_rows_away_instead_of_growing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    limiter = RateLimiter(Counters(tmp_path / "limits", clock=clock), clock=clock)
    full = OSError(errno.ENOSPC, "no space left on device")
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(full))
    for number in range(counters.GROWTH + 50):
        limiter.take(a_key(str(number), requests_per_minute=1), requests=1)
        clock.now += 0.01
    assert limiter._counters.words[counters.USED] == counters.GROWTH
    with pytest.raises(OverLimit):
        limiter.take(a_key(str(number), requests_per_minute=1), requests=1)
    with pytest.raises(DiskFull, match="the disk is full"):
        Counters(tmp_path / "another")


def test_a_table_of_another_version_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "limits").write_bytes(b"\x02\x00\x70\x69\x6c\x73\x00\x00" + b"\xff" * 100_000)
    limiter, key = RateLimiter(Counters(tmp_path / "limits"), clock=lambda: 5.0), a_key(requests_per_minute=1)
    limiter.take(key, requests=1)
    with pytest.raises(OverLimit):
        limiter.take(key, requests=1)


def test_tokens_are_not_taken_off_a_row_that_was_given_away_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "ROWS", 1)
    limiter = RateLimiter(clock=lambda: 5.0)
    key, other = a_key("a", tokens_per_minute=100), a_key("b", tokens_per_minute=100)
    at = limiter.take(key, tokens=100)
    limiter.take(other, tokens=100)
    limiter.correct(key, tokens=0, taken=100, at=at)
    with pytest.raises(OverLimit):
        limiter.take(other, tokens=1)
    limiter.take(key, tokens=1)
    limiter.correct(key, tokens=0, taken=100, at=at)
    assert limiter.remaining(key)["tokens"].remaining == 100


@pytest.fixture
def meter(store: Store, tmp_path: Path) -> Callable[[], Meter]:
    """Meters as workers of one server have them: each on its own, over one table and one store."""
    numbers = itertools.count()

    def make() -> Meter:
        table = Counters(tmp_path / "limits", worker=next(numbers))
        return Meter(store, table, flush_s=float("inf"), clock=Clock(), now=lambda: NOON)

    return make


def test_a_budget_is_never_passed_by_what_was_reserved(meter: Callable[[], Meter]) -> None:
    book, key = meter(), a_key(monthly_budget_micros=1000)
    reserved = [book.reserve(key, 100) for _ in range(10)]
    with pytest.raises(OverLimit, match="has \\$0 left, and this request may cost") as caught:
        book.reserve(key, 1)
    # Others may give back what they do not need.
    assert caught.value.retry_after_s == 1
    for one in reserved:
        book.settle(one, micros=40, tokens=7)
    assert book.used("shop").micros == 400
    assert (book.used("shop").requests, book.used("shop").tokens) == (10, 70)
    book.settle(book.reserve(key, 600), micros=600)
    with pytest.raises(OverLimit, match="monthly budget of key 'shop' is used up") as caught:
        book.reserve(key, 1)
    # The rest of November.
    assert caught.value.retry_after_s == 8 * 86400 + 12 * 3600


def test_only_what_changed_is_read_again(meter: Callable[[], Meter], store: Store) -> None:
    one, other = meter(), meter()
    for number in range(50):
        one.note(f"key {number}", requests=1, micros=number)
    one.flush()
    other.flush()
    assert other.used("key 7").micros == 7
    read: list[int] = []
    real = SpendingBook.since

    def since(book: SpendingBook, period: str, number: int | None) -> Used:
        found = real(book, period, number)
        read.append(len(found.holders))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SpendingBook, "since", since)
        other.flush()
        one.note("key 7", requests=1, micros=100)
        one.flush()
        other.flush()
        other.flush()
    assert read == [0, 1, 1, 0]
    assert other.used("key 7").micros == 107
    assert meter().used("key 49").micros == 49


def test_what_was_set_aside_for_nothing_comes_back(meter: Callable[[], Meter]) -> None:
    book, key = meter(), a_key(monthly_budget_micros=1000)
    reserved = book.reserve(key, 1000)
    book.release(reserved)
    book.release(reserved)
    settled = book.reserve(key, 1000)
    book.settle(settled, micros=10)
    book.release(settled)
    assert book.used("shop").micros == 10
    book.reserve(key, 990)


def test_workers_share_one_budget_at_once(meter: Callable[[], Meter]) -> None:
    one, other, key = meter(), meter(), a_key(monthly_budget_micros=1000)
    first = one.reserve(key, 900)
    with pytest.raises(OverLimit):
        other.reserve(key, 200)
    one.settle(first, micros=900)
    with pytest.raises(OverLimit):
        other.reserve(key, 200)
    other.settle(other.reserve(key, 100), micros=100)
    for book in (one, other, one):
        book.flush()
        with pytest.raises(OverLimit):
            book.reserve(key, 1)
    assert one.used("shop").micros == 1000


def test_a_budget_holds_for_key_person_and_project_alike(meter: Callable[[], Meter]) -> None:
    book = meter()
    key, person = a_key(monthly_budget_micros=1000), a_key("person:1", monthly_budget_micros=100)
    book.settle(book.reserve([*key, *person], 80), micros=80)
    with pytest.raises(OverLimit, match="person:1"):
        book.reserve([*key, *person], 80)
    book.reserve([*key, *a_key("person:2", monthly_budget_micros=100)], 80)
    assert book.used("shop").micros == 80


def test_spending_outlives_the_server(meter: Callable[[], Meter]) -> None:
    key = a_key(monthly_budget_micros=1000)
    before = meter()
    before.settle(before.reserve(key, 900), micros=900)
    before.flush()
    before._counters.close()
    after = meter()
    after.flush()
    with pytest.raises(OverLimit):
        after.reserve(key, 200)


DIES = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from slipway.access.budgets import Meter
from slipway.access.counters import Counters
from slipway.access.limits import Allowance
from slipway.domain.access import Limits
noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
meter = Meter(None, Counters(Path(sys.argv[1]), worker=0), flush_s=float("inf"), now=lambda: noon)
meter._flushed_at, meter._month = float("inf"), 202611
key = [Allowance(holder="shop", whose="key", limits=Limits(monthly_budget_micros=1000))]
meter.settle(meter.reserve(key, 300), micros=300, tokens=5)
meter.reserve(key, 700)
print("full", flush=True)
sys.stdin.readline()
"""


def test_a_worker_that_is_killed_leaves_its_spending_and_gives_back_what_it_reserved(
    tmp_path: Path, store: Store
) -> None:
    other = Meter(store, Counters(tmp_path / "limits", worker=1), flush_s=float("inf"), now=lambda: NOON)
    other.flush()
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", DIES, str(tmp_path / "limits")], **pipes) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "full\n"
        key = a_key(monthly_budget_micros=1000)
        with pytest.raises(OverLimit):
            other.reserve(key, 1)
        worker.kill()
        worker.wait(30)
    other.flush()
    assert store.spending.of("2026-11")["shop"].micros == 300
    assert store.spending.of("2026-11")["shop"].tokens == 5
    other.reserve(key, 700)
    with pytest.raises(OverLimit):
        other.reserve(key, 1)


DIES_OVER_A_BATCH = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from slipway.access import budgets
from slipway.access.counters import Counters
from slipway.access.limits import Allowance
from slipway.config.secrets import Secret
from slipway.domain.access import Limits
from slipway.store.spending import SpendingBook, Used
from slipway.store.store import open_store
folder, moment = Path(sys.argv[1]), sys.argv[2]
store = open_store(f"sqlite:///{folder / 'store.db'}", project="lamps", folder=folder, master_key=Secret("0f" * 32))
noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
meter = budgets.Meter(store, Counters(folder / "limits", worker=0), flush_s=float("inf"), now=lambda: noon)
who = [Allowance(holder=name, whose="key", limits=Limits(monthly_budget_micros=1000)) for name in ("shop", "lab")]
meter.settle(meter.reserve(who, 100), micros=100, tokens=5)
meter.flush()
meter.settle(meter.reserve(who, 300), micros=300, tokens=5)

def after(owner, name):
    real = getattr(owner, name)
    def dies(*given, **named):
        real(*given, **named)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, name, dies)

def before(owner, name):
    def dies(*given, **named):
        # What comes after the batch was begun belongs to none.
        meter.settle(meter.reserve(who, 50), micros=50, tokens=1)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, name, dies)

{
    "before the commit": lambda: after(SpendingBook, "add"),
    "after the commit": lambda: before(budgets.Meter, "_tell"),
    "between two holders": lambda: after(Counters, "settle"),
    "before the end": lambda: before(Counters, "end_batch"),
}[moment]()
meter.flush()
"""


@pytest.mark.parametrize(
    ("moment", "micros", "heir"),
    [
        ("before the commit", 400, "another worker"),
        ("after the commit", 450, "another worker"),
        ("after the commit", 450, "the next start"),
        ("between two holders", 400, "another worker"),
        ("before the end", 450, "the next start"),
    ],
)
def test_a_worker_that_is_killed_while_it_writes_down_is_counted_once(
    tmp_path: Path, store: Store, moment: str, micros: int, heir: str
) -> None:
    def meter(worker: int) -> Meter:
        return Meter(store, Counters(tmp_path / "limits", worker=worker), flush_s=float("inf"), now=lambda: NOON)

    other = meter(1) if heir == "another worker" else None
    ended = subprocess.run([sys.executable, "-c", DIES_OVER_A_BATCH, str(tmp_path), moment], timeout=60)
    assert ended.returncode == -signal.SIGKILL
    other = other or meter(0)
    requests = 2 if micros == 400 else 3
    for _ in range(2):
        other.flush()
        for holder in ("shop", "lab"):
            found = store.spending.of("2026-11")[holder]
            assert (found.micros, found.requests) == (micros, requests)
            key = a_key(holder, monthly_budget_micros=1000)
            other.release(other.reserve(key, 1000 - micros))
            with pytest.raises(OverLimit):
                other.reserve(key, 1001 - micros)
        # What was tried here counts as a request too.
        requests += 1


def test_a_batch_that_is_in_the_store_although_it_seemed_to_fail_is_counted_once(
    meter: Callable[[], Meter], monkeypatch: pytest.MonkeyPatch
) -> None:
    book, key = meter(), a_key(monthly_budget_micros=1000)
    book.settle(book.reserve(key, 7), micros=7)
    add = SpendingBook.add

    def add_and_fail(*given: Any) -> None:
        add(*given)
        raise OSError("the connection broke")

    # Outside the transaction, as when the answer to a commit is lost.
    monkeypatch.setattr(type(book.store), "transaction", lambda _: nullcontext())
    with monkeypatch.context() as patched:
        patched.setattr(SpendingBook, "add", add_and_fail)
        with pytest.raises(OSError, match="the connection broke"):
            book.flush()
    book.settle(book.reserve(key, 10), micros=10)
    assert book.used("shop").micros == 17
    book.flush()
    assert book.store.spending.of("2026-11")["shop"].micros == 17
    assert book.used("shop").micros == 17
    with pytest.raises(OverLimit):
        book.reserve(key, 984)
    book.reserve(key, 983)


def test_requests_a_month(meter: Callable[[], Meter]) -> None:
    book, other, key = meter(), meter(), a_key(monthly_requests=2)
    book.settle(book.reserve(key, 0), micros=0)
    other.reserve(key, 0)
    with pytest.raises(OverLimit, match="2 requests a month"):
        book.reserve(key, 0)


def test_a_new_month_begins_at_zero(store: Store) -> None:
    now = [datetime(2026, 11, 30, 23, 59, tzinfo=UTC)]
    book, key = Meter(store, now=lambda: now[0]), a_key(monthly_budget_micros=100)
    book.settle(book.reserve(key, 100), micros=100)
    with pytest.raises(OverLimit):
        book.reserve(key, 1)
    now[0] = datetime(2026, 12, 1, tzinfo=UTC)
    book.reserve(key, 100)
    assert book.used("shop").micros == 0
    assert store.spending.of("2026-11")["shop"].micros == 100


def test_where_a_thread_writes_down_no_request_waits_for_the_database(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [datetime(2026, 11, 30, 23, 59, tzinfo=UTC)]
    book, key = Meter(store, flush_s=float("inf"), now=lambda: now[0]), a_key(monthly_budget_micros=100)
    book.flush()
    with monkeypatch.context() as patched:
        patched.setattr(type(store), "transaction", lambda _: pytest.fail("the database was asked"))
        book.settle(book.reserve(key, 100), micros=100)
        with pytest.raises(OverLimit):
            book.reserve(key, 1)
        now[0] = datetime(2026, 12, 1, tzinfo=UTC)
        book.settle(book.reserve(key, 60), micros=60)
        with pytest.raises(OverLimit):
            book.reserve(key, 50)
    book.flush()
    assert store.spending.of("2026-11")["shop"].micros == 100
    assert store.spending.of("2026-12")["shop"].micros == 60
    with pytest.raises(OverLimit):
        book.reserve(key, 50)


def test_a_store_that_fails_loses_no_spending(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    book, key = Meter(store, flush_s=1e9, now=lambda: NOON), a_key(monthly_budget_micros=1000)
    book.flush()
    book.settle(book.reserve(key, 7), micros=7)

    def fail(*_: object) -> None:
        raise OSError("disk")

    with monkeypatch.context() as patched:
        patched.setattr(type(store.spending), "add", fail)
        with pytest.raises(OSError, match="disk"):
            book.flush()
    with pytest.raises(OverLimit):
        book.reserve(key, 994)
    book.flush()
    assert store.spending.of("2026-11")["shop"].micros == 7
    with pytest.raises(OverLimit):
        book.reserve(key, 994)
    book.reserve(key, 993)
