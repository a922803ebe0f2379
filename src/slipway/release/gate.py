"""The gate: may this release go out? A pure function of release, evidence, sign-offs and policy."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from slipway.config.settings import Settings
from slipway.domain.release import Evidence, Gate, GateCheck, GatePolicy, Measure, Release, Requirement
from slipway.domain.review import SignOff
from slipway.release.evidence import list_evidence, list_signoffs
from slipway.workspace import Workspace


def gate_release(workspace: Workspace, release: Release) -> Gate:
    """The gate of slipway.toml applied to what the store holds about this release."""
    return check_gate(
        release,
        evidence=list_evidence(workspace, release),
        signoffs=list_signoffs(workspace, release),
        policy=read_policy(workspace.settings),
        now=workspace.now(),
    )


def read_policy(settings: Settings) -> GatePolicy:
    """[evaluate] gate and [review] roles. Without lines, the evidence of every configured suite is needed."""
    lines = [
        Requirement(
            suite=line.suite,
            measure=line.measure,
            at_least=line.at_least,
            at_most=line.at_most,
            max_age_days=line.max_age_days,
        )
        for line in settings.evaluate.gate
    ] or [Requirement(suite=suite) for suite in settings.evaluate.suites]
    return GatePolicy(requirements=tuple(lines), roles=tuple(settings.review.roles))


def check_gate(
    release: Release, *, evidence: Sequence[Evidence], signoffs: Sequence[SignOff], policy: GatePolicy, now: datetime
) -> Gate:
    """Every requirement and role as one check. Evidence about another release never counts."""
    own = [item for item in evidence if item.release == release.id]
    signed = [item for item in signoffs if item.release == release.id]
    checks = [_check_requirement(release, line, own, now) for line in policy.requirements]
    checks += [_check_role(release, role, signed) for role in policy.roles]
    return Gate(release=release.id, checks=tuple(checks))


def _check_requirement(release: Release, line: Requirement, evidence: Sequence[Evidence], now: datetime) -> GateCheck:
    name = f"{line.suite}.{line.measure}" if line.measure else line.suite
    remedy = f"slipway evaluate run {release.label} --suite {line.suite}"
    found = [item for item in evidence if item.suite == line.suite and item.kind != "comparison"]
    if not found:
        return GateCheck(
            name=name, state="missing", reason=f"there is no evidence of the suite '{line.suite}'", remedy=remedy
        )
    newest = max(found, key=lambda item: item.created_at)
    if line.max_age_days is not None and now - newest.created_at > timedelta(days=line.max_age_days):
        age = (now - newest.created_at).days
        return GateCheck(
            name=name,
            state="stale",
            reason=f"the evidence is {age} days old; at most {line.max_age_days:g} are allowed",
            remedy=remedy,
        )
    if not line.measure:
        if newest.passed is False:
            return GateCheck(name=name, state="failed", reason=newest.summary, remedy=remedy)
        return GateCheck(name=name, state="passed", reason=newest.summary)
    return _check_bounds(name, line, newest, remedy)


def _check_bounds(name: str, line: Requirement, evidence: Evidence, remedy: str) -> GateCheck:
    measure = next((item for item in evidence.measures if item.name == line.measure), None)
    if measure is None:
        known = ", ".join(item.name for item in evidence.measures)
        return GateCheck(
            name=name,
            state="missing",
            reason=f"the evidence holds no measure '{line.measure}' (it holds {known})",
            remedy="correct [evaluate] gate in slipway.toml",
        )
    if line.at_least is not None and measure.value < line.at_least:
        return GateCheck(
            name=name, state="below", reason=f"{show_measure(measure)}, at least {line.at_least:g} asked", remedy=remedy
        )
    if line.at_most is not None and measure.value > line.at_most:
        return GateCheck(
            name=name, state="below", reason=f"{show_measure(measure)}, at most {line.at_most:g} allowed", remedy=remedy
        )
    return GateCheck(name=name, state="passed", reason=show_measure(measure))


def _check_role(release: Release, role: str, signoffs: Sequence[SignOff]) -> GateCheck:
    name = f"sign-off {role}"
    remedy = f"slipway review sign {release.label} --role {role} --person NAME"
    own = [item for item in signoffs if item.role == role]
    if not own:
        return GateCheck(name=name, state="unsigned", reason=f"nobody has signed as {role}", remedy=remedy)
    last = max(own, key=lambda item: item.created_at)
    if last.decision == "reject":
        said = f": {last.note}" if last.note else ""
        return GateCheck(name=name, state="failed", reason=f"{last.person} rejected as {role}{said}", remedy=remedy)
    return GateCheck(name=name, state="passed", reason=f"{last.person} approved as {role}")


def show_measure(measure: Measure) -> str:
    """`quality 0.91 (0.85 to 0.95, n = 40)`."""
    unit = f" {measure.unit}" if measure.unit else ""
    text = f"{measure.name} {measure.value:.3g}{unit}"
    details = []
    if measure.low is not None and measure.high is not None:
        details.append(f"{measure.low:.3g} to {measure.high:.3g}")
    if measure.n:
        details.append(f"n = {measure.n}")
    return f"{text} ({', '.join(details)})" if details else text
