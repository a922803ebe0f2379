"""The gate opens only for evidence that is there, fresh and good enough, and for signed roles."""

from datetime import UTC, datetime, timedelta

import pytest

from slipway.domain.decoding import Decoding
from slipway.domain.guardrail import Guardrails
from slipway.domain.ids import ReleaseId
from slipway.domain.model import Model
from slipway.domain.release import Evidence, GatePolicy, Measure, Release, Requirement
from slipway.domain.review import SignOff
from slipway.release.gate import check_gate

NOW = datetime(2026, 11, 22, tzinfo=UTC)
RELEASE = Release(
    id=ReleaseId("a" * 64),
    application="lamps",
    number=3,
    model=Model(engine="extractive", name="extractive"),
    decoding=Decoding(),
    prompt=None,
    index=None,
    guardrails=Guardrails(),
    created_at=NOW,
)


def evidence(
    value: float = 0.9, *, days_old: float = 0, release: str = RELEASE.id, passed: bool | None = None
) -> Evidence:
    return Evidence(
        id=f"e{value}{days_old}{release[:3]}",
        release=ReleaseId(release),
        kind="evaluation",
        suite="quality",
        measures=(Measure(name="quality", value=value, low=value - 0.1, high=value + 0.1, n=40),),
        passed=passed,
        summary=f"quality {value}",
        created_at=NOW - timedelta(days=days_old),
    )


def sign(decision: str, *, hours_ago: float = 1) -> SignOff:
    return SignOff(
        id=f"s{hours_ago}",
        release=RELEASE.id,
        role="legal",
        person="Kim",
        decision=decision,  # type: ignore[arg-type]
        created_at=NOW - timedelta(hours=hours_ago),
    )


QUALITY = Requirement(suite="quality", measure="quality", at_least=0.8, max_age_days=30)

CASES = [
    pytest.param([evidence()], "passed", id="good and fresh evidence passes"),
    pytest.param([], "missing", id="no evidence is missing, not passed"),
    pytest.param([evidence(0.7)], "below", id="a value under the bound is below"),
    pytest.param([evidence(days_old=31)], "stale", id="evidence older than allowed is stale"),
    pytest.param([evidence(release="b" * 64)], "missing", id="evidence of another release does not count"),
    pytest.param([evidence(0.9, days_old=2), evidence(0.5)], "below", id="the newest evidence counts, not the best"),
]


@pytest.mark.parametrize(("held", "state"), CASES)
def test_a_requirement_is_judged_by_the_newest_evidence(held: list[Evidence], state: str) -> None:
    gate = check_gate(RELEASE, evidence=held, signoffs=[], policy=GatePolicy(requirements=(QUALITY,)), now=NOW)
    assert [check.state for check in gate.checks] == [state]
    assert gate.open == (state == "passed")
    assert gate.open or gate.checks[0].remedy


SIGNED = [
    pytest.param([], "unsigned", id="nobody signed"),
    pytest.param([sign("approve")], "passed", id="the role approved"),
    pytest.param([sign("reject")], "failed", id="the role rejected"),
    pytest.param([sign("reject", hours_ago=3), sign("approve")], "passed", id="a later approval settles a rejection"),
    pytest.param([sign("approve", hours_ago=3), sign("reject")], "failed", id="a later rejection closes it again"),
]


@pytest.mark.parametrize(("signed", "state"), SIGNED)
def test_a_role_is_judged_by_its_last_word(signed: list[SignOff], state: str) -> None:
    gate = check_gate(RELEASE, evidence=[], signoffs=signed, policy=GatePolicy(roles=("legal",)), now=NOW)
    assert [check.state for check in gate.checks] == [state]


def test_a_requirement_without_a_measure_follows_the_suites_own_verdict() -> None:
    policy = GatePolicy(requirements=(Requirement(suite="quality"),))
    failed = check_gate(RELEASE, evidence=[evidence(passed=False)], signoffs=[], policy=policy, now=NOW)
    passed = check_gate(RELEASE, evidence=[evidence(passed=True)], signoffs=[], policy=policy, now=NOW)
    assert (failed.open, passed.open) == (False, True)


def test_a_measure_that_the_evidence_lacks_is_missing_and_named() -> None:
    policy = GatePolicy(requirements=(Requirement(suite="quality", measure="fluency", at_least=0.5),))
    gate = check_gate(RELEASE, evidence=[evidence()], signoffs=[], policy=policy, now=NOW)
    assert gate.checks[0].state == "missing"
    assert "fluency" in gate.checks[0].reason
