"""A channel sends the same caller to the same release, and shares are kept."""

from datetime import UTC, datetime

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
