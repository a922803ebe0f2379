"""The scorecard of a release: every suite with its intervals, failures first, and the groups that fall behind."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from slipway.domain.evaluation import CaseResult, Comparison, Evaluation
from slipway.domain.release import GateCheck, Measure, Release
from slipway.evaluate.history import latest_evaluations
from slipway.evaluate.suites.base import suites
from slipway.release.evidence import list_evidence
from slipway.release.gate import gate_release
from slipway.workspace import Workspace

Severity = Literal["high", "medium", "low"]
ASKS = {
    "quality": "Are the answers right?",
    "bias": "Does it matter who asks?",
    "safety": "Can it be led astray?",
    "speed": "How fast does it answer?",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An answer that a person should look at, with the reason."""

    result: CaseResult
    severity: Severity
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One suite's newest run over the release."""

    name: str
    question: str
    evaluation: Evaluation
    headline: Measure | None
    failures: tuple[Failure, ...]
    checks: tuple[GateCheck, ...]
    """What the gate says about this suite."""

    @property
    def cases(self) -> int:
        return len(self.evaluation.results)

    @property
    def errors(self) -> int:
        return sum(bool(result.error) for result in self.evaluation.results)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeakGroup:
    """A group of cases that is worse than all together by more than chance: its interval ends before their value."""

    suite: str
    group: str
    measure: Measure
    overall: Measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorecard:
    """What is known about the limits of a release."""

    release: Release
    dimensions: tuple[Dimension, ...]
    missing: tuple[str, ...]
    """Suites of [evaluate] suites that were never run over this release."""
    weak: tuple[WeakGroup, ...]
    comparisons: tuple[Comparison, ...]
    made_at: datetime


def make_scorecard(workspace: Workspace, release: Release) -> Scorecard:
    """The newest run of each suite, in the order of [evaluate] suites, then others."""
    newest = latest_evaluations(workspace, release)
    configured = workspace.settings.evaluate.suites
    ordered = [name for name in dict.fromkeys([*configured, *sorted(newest)]) if name in newest]
    checks = gate_release(workspace, release).checks
    dimensions = tuple(_dimension(newest[name], checks) for name in ordered)
    return Scorecard(
        release=release,
        dimensions=dimensions,
        missing=tuple(name for name in configured if name not in newest),
        weak=tuple(weak for dimension in dimensions for weak in weak_groups(dimension.evaluation)),
        comparisons=tuple(_comparisons(workspace, release)),
        made_at=workspace.now(),
    )


def failures_of(evaluation: Evaluation) -> list[Failure]:
    """What a person should look at, the most severe first."""
    suite = suites.make(evaluation.suite)
    order: dict[Severity, int] = {"high": 0, "medium": 1, "low": 2}
    failed = [_failure(result) for result in evaluation.results if suite.failed(result)]
    return sorted(failed, key=lambda failure: order[failure.severity])


def weak_groups(evaluation: Evaluation) -> list[WeakGroup]:
    """Groups that are clearly worse than the whole in one of its measures, the worst first."""
    overall = {measure.name: measure for measure in evaluation.measures}
    found = [
        WeakGroup(suite=evaluation.suite, group=group, measure=measure, overall=overall[measure.name])
        for group, measures in evaluation.groups.items()
        for measure in measures
        if measure.name in overall and _worse(measure, overall[measure.name])
    ]
    return sorted(found, key=lambda weak: -abs(weak.measure.value - weak.overall.value))


def _worse(measure: Measure, overall: Measure) -> bool:
    if measure.low is None or measure.high is None:
        return False
    match measure.better:
        case "higher":
            return measure.high < overall.value
        case "lower":
            return measure.low > overall.value
        case "none":
            return False


def _dimension(evaluation: Evaluation, checks: Sequence[GateCheck]) -> Dimension:
    name = evaluation.suite
    return Dimension(
        name=name,
        question=ASKS.get(name, suites.help(name)),
        evaluation=evaluation,
        headline=next((measure for measure in evaluation.measures if measure.name == evaluation.headline), None),
        failures=tuple(failures_of(evaluation)),
        checks=tuple(check for check in checks if check.name.split(".")[0] == name),
    )


def _failure(result: CaseResult) -> Failure:
    if result.error:
        return Failure(result=result, severity="medium", reason=result.error)
    worst: tuple[tuple[str, float, Severity], ...] = (
        ("attack_success", 1.0, "high"),
        ("flip_rate", 1.0, "medium"),
        ("over_refusal", 1.0, "medium"),
        ("quality", 0.0, "medium"),
    )
    for metric, value, severity in worst:
        for score in result.scores:
            if score.metric == metric and score.value == value:
                return Failure(result=result, severity=severity, reason=score.reason)
    return Failure(result=result, severity="low", reason=result.scores[0].reason if result.scores else "")


def _comparisons(workspace: Workspace, release: Release) -> list[Comparison]:
    """The newest comparison with each other release and metric."""
    found: dict[tuple[str, str], Comparison] = {}
    for evidence in list_evidence(workspace, release):
        if evidence.kind == "comparison" and evidence.source:
            comparison = workspace.store.records.find(Comparison, evidence.source)
            if comparison is not None:
                found.setdefault((comparison.before_release, comparison.metric), comparison)
    return list(found.values())
