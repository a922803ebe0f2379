"""Whether a canary has to go: what it and the releases beside it did, judged by the channel's rule."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from slipway.domain.ids import ReleaseId
from slipway.domain.routing import RollbackRule
from slipway.intervals import wilson, wilson_of_mean

LEVEL = 0.98
"""Two-sided level of the intervals: each bound is passed with 99 % confidence."""
MORE_FOR_LATENCY = 5
LEAST_DELAY_S = 0.1
"""A canary that is slower by less than this is not slow, whatever the ratio says."""
BOUNDS_S = tuple(0.001 * 2 ** (step / 4) for step in range(72))
"""Upper bounds of the latency buckets: 1 ms to 3.6 minutes, four to each doubling; the last bucket has none."""
BUCKETS = len(BOUNDS_S) + 1


class Outcomes(NamedTuple):
    """What became of requests: how many, how many failed, and their latencies by `BOUNDS_S`."""

    requests: float
    errors: float
    latencies: Sequence[float]

    @property
    def error_rate(self) -> float:
        return self.errors / self.requests if self.requests else 0.0


class Scores(NamedTuple):
    """Scores of answers between 0 and 1: how many, and their sum."""

    n: int
    total: float

    @property
    def mean(self) -> float:
        return self.total / self.n if self.n else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Why a canary has to go, in a sentence and in figures."""

    reason: str
    measure: str
    canary: float
    others: float
    requests: int


def bucket_of(seconds: float) -> int:
    """The latency bucket of a request."""
    return bisect_left(BOUNDS_S, seconds)


def judge_errors(rule: RollbackRule, canary: Outcomes, others: Outcomes) -> Verdict | None:
    """A verdict when the canary fails more often than the rule allows and than its neighbours do, beyond chance."""
    if rule.error_rate is None or canary.requests < rule.fewest:
        return None
    n = round(canary.requests)
    surely = wilson(min(n, round(canary.errors)), n, level=LEVEL).low
    beside = others.error_rate
    if 0 < others.requests < rule.fewest:
        # Too few to know: the worst that they may stand for.
        beside = wilson(min(round(others.requests), round(others.errors)), round(others.requests), level=LEVEL).high
    if surely <= max(rule.error_rate, beside):
        return None
    return Verdict(
        reason=f"{canary.error_rate:.0%} of its {n} requests failed; {rule.error_rate:.0%} are allowed, and beside it "
        f"{others.error_rate:.0%} failed",
        measure="error_rate",
        canary=canary.error_rate,
        others=others.error_rate,
        requests=n,
    )


def judge_latency(rule: RollbackRule, canary: Outcomes, others: Outcomes) -> Verdict | None:
    """A verdict when clearly more than 5 % of the canary's requests take longer than the allowed multiple of the
    95th percentile beside it."""
    fewest = rule.fewest * MORE_FOR_LATENCY
    if rule.latency_ratio is None or canary.requests < fewest or others.requests < fewest:
        return None
    usual_s = _percentile(others.latencies, 0.95)
    limit_s = max(usual_s * rule.latency_ratio, usual_s + LEAST_DELAY_S)
    n = round(sum(canary.latencies))
    slow = round(sum(canary.latencies[bucket_of(limit_s) + 1 :]))
    if n == 0 or wilson(min(slow, n), n, level=LEVEL).low <= 0.05:
        return None
    own_s = _percentile(canary.latencies, 0.95)
    return Verdict(
        reason=f"its 95th percentile is {own_s:.2f} s, beside it {usual_s:.2f} s; "
        f"{rule.latency_ratio:g} times as much is allowed",
        measure="latency_s",
        canary=own_s,
        others=usual_s,
        requests=n,
    )


def judge_quality(
    rule: RollbackRule, scores: Mapping[ReleaseId, Scores], canary: ReleaseId, others: Sequence[ReleaseId]
) -> Verdict | None:
    """A verdict when the canary's mean score lies further below its neighbours' than the rule allows, beyond chance."""
    if rule.quality_drop is None:
        return None
    own = scores.get(canary, Scores(0, 0.0))
    beside = Scores(
        sum(scores[release].n for release in others if release in scores),
        sum(scores[release].total for release in others if release in scores),
    )
    if own.n < rule.fewest or beside.n < rule.fewest:
        return None
    best_case = wilson_of_mean(_share(own.mean), own.n, level=LEVEL).high
    if best_case >= beside.mean - rule.quality_drop:
        return None
    return Verdict(
        reason=f"its mean {rule.metric} is {own.mean:.2f} over {own.n} answers, beside it {beside.mean:.2f}; "
        f"{rule.quality_drop:g} less is allowed",
        measure=rule.metric,
        canary=own.mean,
        others=beside.mean,
        requests=own.n,
    )


def _percentile(latencies: Sequence[float], share: float) -> float:
    """Upper bound, in seconds, of the bucket that holds the percentile."""
    wanted, running = sum(latencies) * share, 0.0
    for bound, count in zip(BOUNDS_S, latencies, strict=False):
        running += count
        if running >= wanted:
            return bound
    return BOUNDS_S[-1]


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))
