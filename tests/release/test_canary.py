"""When a canary has to go: beyond chance, and only where it is worse than what stands beside it."""

from random import Random

import pytest

from slipway.domain.decoding import Decoding
from slipway.domain.feedback import Finding
from slipway.domain.guardrail import Guardrails
from slipway.domain.ids import ReleaseId
from slipway.domain.model import Model
from slipway.domain.release import Release
from slipway.domain.routing import AdaptiveSplit, RollbackRule
from slipway.release.canary import (
    BUCKETS,
    Outcomes,
    Scores,
    Verdict,
    bucket_of,
    judge_errors,
    judge_latency,
    judge_quality,
)
from slipway.release.channels import load_channel, promote, roll_back, set_adaptive, set_rule, split
from slipway.release.parts import save_release
from slipway.release.rollback import roll_back_canary
from slipway.workspace import Workspace

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


# In its channel -----------------------------------------------------------------------------------------------------

BAD = Verdict(reason="it fails", measure="error_rate", canary=0.5, others=0.0, requests=20)


def release(workspace: Workspace, model: str) -> Release:
    return save_release(
        workspace,
        model=Model(engine="echo", name=model),
        decoding=Decoding(),
        prompt=None,
        index=None,
        guardrails=Guardrails(),
        note="",
    )


@pytest.fixture
def three(workspace):
    """The first release serves `lamps`, the second one is its canary with a tenth, the third one is ready."""
    made = [release(workspace, name) for name in ("one", "two", "three")]
    promote(workspace, made[0], "lamps", force=True)
    promote(workspace, made[1], "lamps", weight=0.1, force=True)
    return made


def test_a_new_share_for_a_release_that_served_already_makes_it_no_canary(workspace, three):
    one, two, _ = three
    assert load_channel(workspace, "lamps").canary == two.id
    assert promote(workspace, one, "lamps", weight=0.5, force=True).canary == two.id
    assert split(workspace, "lamps", [(one, 0.2), (two, 0.8)]).canary == two.id


def test_the_newest_release_is_the_canary_and_a_full_promotion_ends_it(workspace, three):
    third = promote(workspace, three[2], "lamps", weight=0.1, force=True)
    assert third.canary == three[2].id
    assert [share.release for share in third.stable] == [three[0].id, three[1].id]
    assert promote(workspace, three[2], "lamps", force=True).canary is None


def test_a_first_split_has_no_canary(workspace, three):
    """There is nothing known to be good that it could fall back to."""
    promote(workspace, three[0], "other", force=True)
    assert load_channel(workspace, "other").canary is None


def test_a_canary_is_rolled_back_once(workspace, three):
    changed = roll_back_canary(workspace, "lamps", three[1].id, BAD)
    assert [(share.release, share.weight) for share in changed.shares] == [(three[0].id, 1.0)]
    assert roll_back_canary(workspace, "lamps", three[1].id, BAD) is None
    assert len(workspace.store.records.list(Finding)) == 1
    # What rolling back by hand returns to is not the canary.
    assert [share.release for share in roll_back(workspace, "lamps").shares] == [three[0].id]


def test_two_releases_beside_a_canary_keep_their_proportion(workspace, three):
    promote(workspace, three[2], "lamps", weight=0.5, force=True)
    changed = roll_back_canary(workspace, "lamps", three[2].id, BAD)
    assert [share.weight for share in changed.shares] == pytest.approx([0.9, 0.1])


def test_rules_and_adaptive_splits_leave_the_canary_as_it_is(workspace, three):
    before = load_channel(workspace, "lamps")
    set_rule(workspace, "lamps", RollbackRule(error_rate=0.5))
    set_adaptive(workspace, "lamps", AdaptiveSplit())
    after = load_channel(workspace, "lamps")
    assert (after.canary, after.canary_since, after.shares) == (before.canary, before.canary_since, before.shares)
    assert after.previous == before.previous
