"""How a channel's traffic is steered: kinds of failure, the rule that rolls a canary back, the split that adapts."""

from dataclasses import dataclass
from typing import Literal, get_args

from slipway.domain.ids import ReleaseId

FailureKind = Literal["rate_limit", "timeout", "server_error", "unreachable", "content_filter"]
"""What a fallback may answer to. `server_error` holds garbled answers and refused credentials of ours too."""
FAILURE_KINDS: tuple[FailureKind, ...] = get_args(FailureKind)

QualityMetric = Literal["feedback", "grounded", "answered"]
"""Quality of one answer between 0 and 1: the users' word, its overlap with its passages, whether it answered at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackRule:
    """When a canary loses its traffic by itself. A part that is None is not looked at.

    `error_rate` is the highest share of failed requests; it counts only where the canary also fails more often than
    the releases beside it. `latency_ratio` is the highest 95th percentile as a multiple of theirs. `quality_drop` is
    how far the mean of `metric` may lie below theirs. Each bound must be passed beyond chance, not only on paper.
    """

    error_rate: float | None = 0.1
    latency_ratio: float | None = 3.0
    quality_drop: float | None = 0.1
    metric: QualityMetric = "feedback"
    fewest: int = 10
    """Requests to the canary before errors decide; latency and quality ask for five times as many."""


DEFAULT_RULE = RollbackRule()


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveSplit:
    """A split that follows a quality metric: each release gets the traffic of its chance of being the best.

    No release falls below `floor`, so that all of them go on being tried.
    """

    metric: QualityMetric = "feedback"
    floor: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """A Beta distribution of one release's quality: `good` and `bad` answers on top of a flat prior."""

    release: ReleaseId
    good: float
    bad: float

    @property
    def mean(self) -> float:
        return (self.good + 1) / (self.good + self.bad + 2)
