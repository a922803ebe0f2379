"""A channel sends the same caller to the same release, and shares are kept."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies

from slipway.domain.ids import ReleaseId
from slipway.domain.release import Channel, Share
from slipway.release.channels import choose_release

OLD, NEW = ReleaseId("1" * 64), ReleaseId("2" * 64)


def channel(*shares: tuple[ReleaseId, float]) -> Channel:
    return Channel(
        name="lamps",
        shares=tuple(Share(release=release, weight=weight) for release, weight in shares),
        changed_at=datetime(2026, 11, 22, tzinfo=UTC),
    )


@given(strategies.text(), strategies.floats(0.01, 100), strategies.floats(0.01, 100))
def test_the_same_key_always_gets_the_same_release(key: str, old: float, new: float) -> None:
    split = channel((OLD, old), (NEW, new))
    assert choose_release(split, key) == choose_release(split, key)
    assert choose_release(split, key) in (OLD, NEW)


def test_a_tenth_of_the_users_gets_the_canary() -> None:
    split = channel((OLD, 0.9), (NEW, 0.1))
    got = [choose_release(split, f"user-{number}") for number in range(10_000)]
    assert 0.08 < got.count(NEW) / len(got) < 0.12


def test_a_growing_canary_keeps_whom_it_had() -> None:
    small, large = channel((OLD, 0.9), (NEW, 0.1)), channel((OLD, 0.5), (NEW, 0.5))
    users = [f"user-{number}" for number in range(2000)]
    had = {user for user in users if choose_release(small, user) == NEW}
    assert had <= {user for user in users if choose_release(large, user) == NEW}


MOVES = [
    pytest.param({"a": 0.9, "c": 0.1}, {"a": 0.7, "c": 0.3}, id="a canary grows"),
    pytest.param({"a": 0.45, "b": 0.45, "c": 0.1}, {"a": 0.5, "b": 0.5}, id="a canary goes"),
    pytest.param({"a": 0.2, "b": 0.4, "c": 0.4}, {"b": 0.25, "c": 0.25, "a": 0.5}, id="the first grows"),
    pytest.param({"a": 0.5, "b": 0.5}, {"b": 0.5, "a": 0.5}, id="another order"),
]


@pytest.mark.parametrize(("before", "after"), MOVES)
def test_no_more_people_move_than_must(before: dict[str, float], after: dict[str, float]) -> None:
    old, new = (channel(*((ReleaseId(name * 64), weight) for name, weight in one.items())) for one in (before, after))
    users = [f"user-{number}" for number in range(5000)]
    moved = sum(choose_release(old, user) != choose_release(new, user) for user in users) / len(users)
    must = sum(abs(before.get(name, 0) - after.get(name, 0)) for name in before | after) / 2
    assert moved <= must * 1.1 + 0.01


def test_who_was_not_with_a_release_that_is_left_out_stays() -> None:
    split = channel(*((ReleaseId(name * 64), weight) for name, weight in (("a", 0.45), ("b", 0.45), ("c", 0.1))))
    for number in range(2000):
        chosen = choose_release(split, f"user-{number}")
        without = choose_release(split, f"user-{number}", without=ReleaseId("c" * 64))
        assert without == chosen or chosen == "c" * 64
