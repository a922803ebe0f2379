"""What keys have used: every batch counts once, on each database."""

from dataclasses import dataclass

from slipway.domain.access import Spending
from slipway.store.store import Store

MONTH = "2026-11"


@dataclass(frozen=True)
class Batch:
    name: str
    token: int
    number: int


def used(store: Store, holder: str = "shop") -> tuple[int, int, int]:
    found = store.spending.of(MONTH)[holder]
    return found.requests, found.tokens, found.micros


def test_a_batch_is_added_once_however_often_it_comes(store: Store) -> None:
    sums = [Spending(holder="shop", period=MONTH, requests=3, tokens=40, micros=500)]
    for number in (1, 1, 2, 2, 1):
        store.spending.add(sums, Batch("worker", 7, number))
    assert used(store) == (6, 80, 1000)


def test_a_writer_that_takes_a_name_over_starts_its_batches_anew(store: Store) -> None:
    sums = [Spending(holder="shop", period=MONTH, requests=1, tokens=2, micros=3)]
    for batch in (Batch("worker", 7, 5), Batch("worker", 8, 1), Batch("worker", 8, 1), Batch("other", 7, 1)):
        store.spending.add(sums, batch)
    assert used(store) == (3, 6, 9)


def test_without_a_batch_everything_is_added(store: Store) -> None:
    for _ in range(2):
        store.spending.add(
            [Spending(holder=who, period=MONTH, requests=1, tokens=0, micros=9) for who in ("shop", "desk")]
        )
    assert used(store) == used(store, "desk") == (2, 0, 18)
