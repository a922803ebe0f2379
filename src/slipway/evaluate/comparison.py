"""Compares two releases case by case: difference with interval, exact p, and which cases changed."""

import math
from dataclasses import replace
from typing import Literal

from slipway.domain.errors import NotComparable
from slipway.domain.evaluation import CaseResult, Comparison, Evaluation, Interval
from slipway.domain.ids import hash_parts, new_id
from slipway.domain.release import Evidence, Measure, Release
from slipway.evaluate.history import list_evaluations
from slipway.evaluate.suites.base import suites
from slipway.intervals import mcnemar, paired_bootstrap, paired_difference
from slipway.release.evidence import attach
from slipway.workspace import Workspace

LOWER = ("latency", "cost", "flip_rate", "attack_success", "over_refusal", "first_piece")
"""Metrics of which less is better."""
FEW = 6
"""With fewer cases that differ, no exact two-sided test reaches 5 %."""


def compare_evaluations(
    workspace: Workspace, before: Release, after: Release, *, suite: str = "quality", metric: str = "", seed: int = 0
) -> Comparison:
    """The newest evaluations of both releases over the same dataset version, compared; kept as evidence of `after`.

    Raises `NotComparable` when they were never asked the same cases.
    """
    metric = metric or suites.make(suite).metric
    pair = _pair(workspace, before, after, suite)
    try:
        comparison = compare(*pair, metric=metric, seed=seed)
    except ValueError as wrong:
        raise NotComparable(before.label, after.label, suite, str(wrong)) from wrong
    comparison = replace(comparison, created_at=workspace.now())
    with workspace.store.transaction():
        kept = workspace.store.records.save(
            comparison, parents=[("evaluation", pair[0].id), ("evaluation", pair[1].id)]
        )
        attach(
            workspace,
            Evidence(
                id=new_id(),
                release=after.id,
                kind="comparison",
                suite=f"{suite} comparison",
                measures=(_difference(comparison),),
                passed=None,
                summary=describe(comparison, before.label),
                created_at=workspace.now(),
                dataset=comparison.dataset,
                seed=seed,
                source=kept,
            ),
            parents=[("comparison", kept)],
        )
    return comparison


def compare(before: Evaluation, after: Evaluation, *, metric: str = "quality", seed: int = 0) -> Comparison:
    """Paired by case id. Raises `ValueError` when no case has this score in both.

    Scores of only 0 and 1: Newcombe's paired interval and McNemar's exact test. Graded scores: a bootstrap over cases
    and the exact sign test. While fewer than six cases differ the interval is stretched to hold zero, because so few
    cannot show a difference.
    """
    answered = {result.case: result for result in before.results}
    pairs = [
        (answered[result.case], result)
        for result in after.results
        if result.case in answered and answered[result.case].question == result.question
    ]
    scored = [
        (result.case, old, new)
        for earlier, result in pairs
        if (old := _value(earlier, metric)) is not None and (new := _value(result, metric)) is not None
    ]
    if not scored:
        raise ValueError(f"no case has the score '{metric}' in both")
    better: Literal["higher", "lower"] = "lower" if metric in LOWER else "higher"
    sign = -1 if better == "lower" else 1
    won = tuple(case for case, old, new in scored if sign * (new - old) > 0)
    lost = tuple(case for case, old, new in scored if sign * (new - old) < 0)
    n = len(scored)
    old_mean = math.fsum(old for _, old, _ in scored) / n
    new_mean = math.fsum(new for _, _, new in scored) / n
    interval, method = _interval([(old, new) for _, old, new in scored], seed=seed)
    return Comparison(
        id=hash_parts({"before": before.id, "after": after.id, "metric": metric, "seed": seed})[:26],
        metric=metric,
        before=old_mean,
        after=new_mean,
        difference=new_mean - old_mean,
        interval=interval,
        n=n,
        wins=len(won),
        losses=len(lost),
        ties=n - len(won) - len(lost),
        before_release=before.release,
        after_release=after.release,
        before_evaluation=before.id,
        after_evaluation=after.id,
        dataset=after.dataset,
        better=better,
        method=method,
        p_value=mcnemar(len(won), len(lost)),
        won=won,
        lost=lost,
    )


def describe(comparison: Comparison, before: str) -> str:
    """The comparison in one sentence."""
    low, high = comparison.interval
    figures = (
        f"{comparison.metric} {comparison.before:.3g} to {comparison.after:.3g}, {comparison.difference:+.3g} "
        f"({low:+.3g} to {high:+.3g}, n = {comparison.n})"
    )
    if not comparison.clear:
        return f"{figures}: no clear difference from {before}"
    improved = (comparison.difference > 0) == (comparison.better == "higher")
    return f"{figures}: {'better' if improved else 'worse'} than {before}"


def _value(result: CaseResult, metric: str) -> float | None:
    return None if result.error else result.value(metric)


def _interval(pairs: list[tuple[float, float]], *, seed: int) -> tuple[Interval, str]:
    """Of the mean of after minus before, with the name of the method."""
    if all(score in (0, 1) for pair in pairs for score in pair):
        both = sum(pair == (1, 1) for pair in pairs)
        gained, gone = sum(pair == (0, 1) for pair in pairs), sum(pair == (1, 0) for pair in pairs)
        interval = paired_difference(both, gained, gone, len(pairs) - both - gained - gone)
        method = "Newcombe's paired interval, McNemar's exact test"
    else:
        interval = paired_bootstrap([new - old for old, new in pairs], seed=seed)
        method = "paired bootstrap, exact sign test"
    if sum(old != new for old, new in pairs) < FEW:
        interval = Interval(min(interval.low, 0.0), max(interval.high, 0.0))
    return interval, method


def _pair(workspace: Workspace, before: Release, after: Release, suite: str) -> tuple[Evaluation, Evaluation]:
    """The newest two over the same dataset version and seed."""
    old, new = (list_evaluations(workspace, release, suite=suite) for release in (before, after))
    for release, found in ((before, old), (after, new)):
        if not found:
            raise NotComparable(before.label, after.label, suite, f"{release.label} was never evaluated by '{suite}'")
    for later in new:
        for earlier in old:
            if _asked(earlier) == _asked(later) and earlier.id != later.id:
                return earlier, later
    reason = f"their evaluations by '{suite}' asked different versions of the dataset"
    raise NotComparable(before.label, after.label, suite, reason)


def _asked(evaluation: Evaluation) -> tuple[str, int]:
    return (evaluation.dataset.hash if evaluation.dataset else "", evaluation.seed)


def _difference(comparison: Comparison) -> Measure:
    return Measure(
        name=comparison.metric,
        value=comparison.difference,
        low=comparison.interval.low,
        high=comparison.interval.high,
        n=comparison.n,
        better=comparison.better,
    )
