"""What a suite promises: it plans probes, scores each answer, and concludes from all results."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar, Literal, Protocol, TypeVar

from slipway.domain.dataset import Case
from slipway.domain.document import Passage
from slipway.domain.evaluation import CaseResult, Score
from slipway.domain.message import Message
from slipway.domain.release import EvidenceKind, Measure
from slipway.intervals import bootstrap, mean_interval, percentile_interval, wilson
from slipway.metrics.base import AnswerView
from slipway.plugins import Registry

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a suite may plan with. `instructions` are the release's own, as far as it has a prompt."""

    cases: tuple[Case, ...]
    instructions: str = ""
    seed: int = 0
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One thing to ask: a case, what was said before it, and passages that are put before what the search finds."""

    case: Case
    history: tuple[Message, ...] = ()
    planted: tuple[Passage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What follows from all results of a suite. The first measure is its headline."""

    results: tuple[CaseResult, ...]
    measures: tuple[Measure, ...]
    groups: dict[str, tuple[Measure, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Suite(Protocol):
    """A frozen dataclass of settings. `metric` is the score by which two releases are compared case by case.

    `streamed` suites read the answer as it comes, one request at a time.
    """

    metric: ClassVar[str]
    kind: ClassVar[EvidenceKind]
    streamed: ClassVar[bool]

    def plan(self, material: Material) -> list[Probe]:
        """What to ask. The same material gives the same probes; ids of their cases differ."""
        ...

    def score(self, probe: Probe, answer: AnswerView, material: Material) -> tuple[Score, ...]: ...

    def conclude(self, results: Sequence[CaseResult], material: Material) -> Conclusion:
        """Measures with intervals. Results that carry an error have no scores."""
        ...

    def failed(self, result: CaseResult) -> bool:
        """Whether a person should look at this answer."""
        ...


suites: Registry[Suite] = Registry("suite", package="slipway.evaluate.suites")


def values_of(results: Iterable[CaseResult], metric: str) -> list[float]:
    """The scores of a metric, without those where it does not apply."""
    return [value for result in results if (value := result.value(metric)) is not None]


def mean_measure(
    results: Iterable[CaseResult],
    metric: str,
    *,
    better: Literal["higher", "lower", "none"] = "higher",
    unit: str = "",
    seed: int = 0,
    name: str = "",
) -> Measure | None:
    """The mean of a metric with its interval; None where it applies to no result."""
    values = values_of(results, metric)
    if not values:
        return None
    # What has a unit has no upper end, so Wilson's interval for scores from 0 to 1 does not fit it.
    low, high = bootstrap(values, seed=seed) if unit else mean_interval(values, seed=seed)
    return Measure(
        name=name or metric,
        value=math.fsum(values) / len(values),
        low=low,
        high=high,
        n=len(values),
        unit=unit,
        better=better,
    )


def share_measure(name: str, hits: int, n: int, *, better: Literal["higher", "lower", "none"]) -> Measure:
    """A share of n with Wilson's interval."""
    low, high = wilson(hits, n)
    return Measure(name=name, value=hits / n if n else 0.0, low=low, high=high, n=n, better=better)


def present(measures: Iterable[Measure | None]) -> tuple[Measure, ...]:
    """Those that could be computed."""
    return tuple(measure for measure in measures if measure is not None)


def grouped(results: Iterable[CaseResult], key: Callable[[CaseResult], str]) -> dict[str, list[CaseResult]]:
    """Results by a key in order of first sight; an empty key is left out."""
    found: dict[str, list[CaseResult]] = {}
    for result in results:
        if name := key(result):
            found.setdefault(name, []).append(result)
    return found


def choose(items: Sequence[Item], *limits: int | None, seed: int) -> list[Item]:
    """All of them, or a random choice by seed when there are more than the smallest limit; the order stays."""
    most = min((limit for limit in limits if limit is not None), default=len(items))
    if most >= len(items):
        return list(items)
    chosen = set(Random(seed).sample(range(len(items)), most))
    return [item for place, item in enumerate(items) if place in chosen]


def latencies(results: Sequence[CaseResult]) -> list[Measure | None]:
    """Median and 95th percentile of the seconds an answer took."""
    return [
        percentile_measure(results, "latency", name, share)
        for name, share in (("latency_p50", 0.5), ("latency_p95", 0.95))
    ]


def percentile_measure(results: Iterable[CaseResult], metric: str, name: str, share: float) -> Measure | None:
    """A percentile of seconds with its order-statistic interval; None where the metric applies to no result."""
    seconds = sorted(values_of(results, metric))
    if not seconds:
        return None
    low, high = percentile_interval(seconds, share)
    value = percentile(seconds, share)
    return Measure(name=name, value=value, low=low, high=high, n=len(seconds), unit="s", better="lower")


def percentile(ordered: Sequence[float], share: float) -> float:
    """Linear between neighbours (Hyndman and Fan, type 7)."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
