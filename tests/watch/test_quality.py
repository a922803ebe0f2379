"""Sampled quality: an injected fault is found with its start and suspect, and an A/A week stays quiet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

from slipway.domain.ids import ReleaseId, new_trace_id
from slipway.watch.quality import ScoredTrace, find_falls

START = datetime(2026, 11, 15, tzinfo=UTC)


def week(n: int, *, answered: float, begin: datetime, release: str, seed: int) -> list[ScoredTrace]:
    rng = Random(seed)
    return [
        ScoredTrace(
            trace=new_trace_id(),
            at=begin + timedelta(minutes=10 * number),
            release=ReleaseId(release),
            status="ok" if rng.random() < answered else "abstained",
            grounded=0.9,
        )
        for number in range(n)
    ]


def test_a_week_like_the_one_before_raises_no_alarm() -> None:
    alarms = 0
    for seed in range(20):
        first = week(100, answered=0.8, begin=START, release="a", seed=seed)
        second = week(100, answered=0.8, begin=START + timedelta(days=7), release="a", seed=seed + 1000)
        alarms += bool(find_falls([*first, *second]))
    assert alarms <= 2


def test_a_fall_is_named_with_its_start_and_the_release_that_came() -> None:
    good = week(100, answered=0.9, begin=START, release="old", seed=1)
    bad_since = START + timedelta(days=7)
    bad = week(100, answered=0.3, begin=bad_since, release="new", seed=2)
    falls = find_falls([*bad, *good])
    assert [fall.measure for fall in falls] == ["answered"]
    assert abs(falls[0].since - bad_since) < timedelta(hours=2)
    assert falls[0].suspects == ("release new",)
