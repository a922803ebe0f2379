"""Evaluations: one release run over one dataset, case by case, and the comparison of two."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from slipway.domain.document import Citation
from slipway.domain.ids import ContentHash, ReleaseId, SubjectId, TraceId
from slipway.domain.release import Measure, PartRef


class Interval(NamedTuple):
    """Bounds of a 95 % confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One metric's number for one case, with its reason. `value` None means not applicable, never NaN."""

    metric: str
    value: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What a release answered to one case, and how it scored."""

    case: str
    question: str
    answer: str
    scores: tuple[Score, ...]
    abstained: bool = False
    blocked: bool = False
    error: str = ""
    citations: tuple[Citation, ...] = ()
    trace: TraceId | None = None
    seconds: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int = 0
    group: str = ""
    tags: tuple[str, ...] = ()
    subject: SubjectId | None = None
    """The person whom the case is about, where it came from a trace."""

    def value(self, metric: str) -> float | None:
        """The score of one metric; None where it was not computed or does not apply."""
        return next((score.value for score in self.scores if score.metric == metric), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedCase:
    """A case's result by itself: kept while a run goes on, and for good where the case is about a person.

    `run` is the hash of release, suite, dataset and seed: a run that was stopped continues from these.
    """

    id: str
    run: ContentHash
    result: CaseResult
    subject: SubjectId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One run of one suite over one release."""

    id: str
    release: ReleaseId
    suite: str
    dataset: PartRef | None
    results: tuple[CaseResult, ...]
    measures: tuple[Measure, ...]
    seed: int
    started_at: datetime
    seconds: float
    notes: tuple[str, ...] = ()
    groups: dict[str, tuple[Measure, ...]] = field(default_factory=dict)
    run: str = ""
    """Hash of release, suite, dataset and seed: the same work has the same `run`."""
    headline: str = ""
    """Name of the measure that stands for the suite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two releases on the same cases, paired. `interval` is of the difference after minus before."""

    id: str = ""
    metric: str
    before: float
    after: float
    difference: float
    interval: Interval
    n: int
    wins: int
    losses: int
    ties: int
    before_release: ReleaseId
    after_release: ReleaseId
    before_evaluation: str = ""
    after_evaluation: str = ""
    dataset: PartRef | None = None
    better: Literal["higher", "lower"] = "higher"
    method: str = ""
    p_value: float | None = None
    """Exact two-sided p of McNemar's test (or of the sign test, where scores are graded) over the cases that differ."""
    won: tuple[str, ...] = ()
    """Cases that got better, by id; `lost` those that got worse."""
    lost: tuple[str, ...] = ()
    created_at: datetime | None = None

    @property
    def clear(self) -> bool:
        return self.interval.low > 0 or self.interval.high < 0
