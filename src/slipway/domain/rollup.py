"""Numbers of many requests: histograms of durations and sums per step of time."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

GROWTH = 1.1
"""Width of a bucket: a percentile is at most 5 % off (the square root of 1.1 is 1.049)."""
_LOG_GROWTH = math.log(GROWTH)


def bucket_of(duration_ns: int) -> int:
    """Number of the bucket whose durations lie in (1.1 ** (n - 1), 1.1 ** n] nanoseconds; 0 holds 1 ns and less."""
    return max(0, math.ceil(math.log(duration_ns) / _LOG_GROWTH)) if duration_ns > 1 else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Durations in buckets of growing width: (bucket, count), by bucket. Histograms add without loss."""

    counts: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, durations_ns: Iterable[int]) -> "Histogram":
        return cls(counts=tuple(sorted(Counter(map(bucket_of, durations_ns)).items())))

    @property
    def total(self) -> int:
        return sum(count for _, count in self.counts)

    def percentile(self, share: float) -> float | None:
        """Seconds that this share (0 to 1) of the durations does not exceed, at most 5 % off; None when empty."""
        total = self.total
        if total == 0:
            return None
        rank = max(1, math.ceil(share * total))
        below = 0
        for bucket, count in self.counts:
            below += count
            if below >= rank:
                return math.pow(GROWTH, bucket - 0.5) / 1e9
        return None

    def __add__(self, other: "Histogram") -> "Histogram":
        counts = Counter(dict(self.counts))
        counts.update(dict(other.counts))
        return Histogram(counts=tuple(sorted(counts.items())))


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupPoint:
    """One step of time for one release, model or channel (`key`; empty when everything is taken together)."""

    minute: datetime
    """Start of the step."""
    key: str = ""
    count: int = 0
    errors: int = 0
    abstained: int = 0
    blocked: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_micros: int = 0
    latency: Histogram = Histogram()
    first_token: Histogram = Histogram()
