"""Evaluations: one release run over one dataset, case by case, and the comparison of two."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from slipway.domain.document import Citation
from slipway.domain.ids import ReleaseId, TraceId
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two releases on the same cases, paired. `interval` is of the difference after minus before."""

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

    @property
    def clear(self) -> bool:
        return self.interval.low > 0 or self.interval.high < 0
