"""When a canary has to go: beyond chance, and only where it is worse than what stands beside it."""

from random import Random

import pytest

from slipway.domain.ids import ReleaseId
from slipway.domain.routing import RollbackRule
from slipway.release.canary import BUCKETS, Outcomes, Scores, bucket_of, judge_errors, judge_latency, judge_quality

RULE = RollbackRule()
CANARY, STABLE = ReleaseId("c" * 64), ReleaseId("a" * 64)


def outcomes(requests: int, errors: int = 0, seconds: float = 0.2, slow: int = 0, slow_s: float = 5.0) -> Outcomes:
    latencies = [0.0] * BUCKETS
    latencies[bucket_of(seconds)] += requests - slow
    latencies[bucket_of(slow_s)] += slow
    return Outcomes(requests, errors, latencies)


ERRORS = [
    pytest.param(10, 5, 1000, 0, True, id="half of ten"),
    pytest.param(10, 4, 1000, 0, True, id="four of ten"),
    pytest.param(10, 2, 1000, 0, False, id="two of ten may be chance"),
    pytest.param(9, 9, 1000, 0, False, id="fewer than ten requests"),
    pytest.param(1000, 50, 1000, 0, False, id="5 % are allowed"),
    pytest.param(1000, 150, 1000, 0, True, id="15 % are too many"),
    pytest.param(50, 25, 500, 250, False, id="the others fail as often: it is not the canary"),
    pytest.param(50, 45, 500, 250, True, id="the others fail too, but clearly less"),
    pytest.param(10, 5, 0, 0, True, id="nothing beside it yet"),
    pytest.param(10, 10, 9, 9, False, id="the few beside it failed as well"),
    pytest.param(10, 10, 9, 0, True, id="the few beside it were well"),
]


@pytest.mark.parametrize(("n", "errors", "others", "others_errors", "out"), ERRORS)
def test_errors(n, errors, others, others_errors, out):
    verdict = judge_errors(RULE, outcomes(n, errors), outcomes(others, others_errors))
    assert (verdict is not None) is out
    if verdict:
        assert verdict.measure == "error_rate"
        assert verdict.requests == n


def taken_out_at(rate: float, rng: Random, *, most: int) -> int | None:
    """After how many requests a canary with this error rate goes, looked at after each failure."""
    errors = 0
    for n in range(1, most + 1):
        if rng.random() < rate:
            errors += 1
            if judge_errors(RULE, outcomes(n, errors), outcomes(9 * n, 0)):
                return n
    return None


def test_a_canary_with_half_errors_goes_within_fifty_requests():
    found = [taken_out_at(0.5, Random(seed), most=50) for seed in range(300)]
    assert None not in found
    assert sorted(found)[150] <= 15


def test_a_canary_within_its_bound_almost_always_stays():
    assert sum(taken_out_at(0.03, Random(seed), most=300) is not None for seed in range(200)) <= 2


LATENCIES = [
    pytest.param(outcomes(100, seconds=1.0), outcomes(1000, seconds=0.2), True, id="five times as slow"),
    pytest.param(outcomes(100, seconds=0.4), outcomes(1000, seconds=0.2), False, id="twice as slow"),
    pytest.param(outcomes(40, seconds=9.0), outcomes(1000, seconds=0.2), False, id="too few requests"),
    pytest.param(outcomes(100, slow=20), outcomes(1000), True, id="a fifth are very slow"),
    pytest.param(outcomes(100, slow=6), outcomes(1000), False, id="six of a hundred may be chance"),
    pytest.param(outcomes(100, seconds=0.02), outcomes(1000, seconds=0.002), False, id="18 ms are no harm"),
    pytest.param(outcomes(100, seconds=9.0), outcomes(1000, seconds=9.0), False, id="all are slow"),
]


@pytest.mark.parametrize(("canary", "others", "out"), LATENCIES)
def test_latency(canary, others, out):
    assert (judge_latency(RULE, canary, others) is not None) is out


QUALITIES = [
    pytest.param(Scores(20, 6.0), Scores(200, 180.0), True, id="0.3 against 0.9"),
    pytest.param(Scores(20, 16.0), Scores(200, 180.0), False, id="0.8 against 0.9 may be chance"),
    pytest.param(Scores(5, 0.0), Scores(200, 180.0), False, id="too few answers"),
    pytest.param(Scores(20, 6.0), Scores(5, 5.0), False, id="too few beside it"),
    pytest.param(Scores(2000, 1400.0), Scores(2000, 1800.0), True, id="0.7 against 0.9, many answers"),
]


@pytest.mark.parametrize(("own", "others", "out"), QUALITIES)
def test_quality(own, others, out):
    verdict = judge_quality(RULE, {CANARY: own, STABLE: others}, CANARY, [STABLE])
    assert (verdict is not None) is out


def test_a_bound_that_is_left_out_is_not_looked_at():
    nothing = RollbackRule(error_rate=None, latency_ratio=None, quality_drop=None)
    assert judge_errors(nothing, outcomes(100, 100), outcomes(100)) is None
    assert judge_latency(nothing, outcomes(100, seconds=60), outcomes(100)) is None
    assert judge_quality(nothing, {CANARY: Scores(90, 0), STABLE: Scores(90, 90)}, CANARY, [STABLE]) is None
