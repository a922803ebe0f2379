"""What goes through a running gateway at this moment: rates, latency, errors and cost over its last half minute."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Upper bounds of the buckets in which a gateway counts latencies; one more bucket holds what took longer."""
STRETCH_S = 30.0
OLD_AFTER_S = 10.0
"""What a worker wrote earlier than this says nothing: it has ended, or was killed."""


class Passing(msgspec.Struct, kw_only=True):
    """What one channel and release did in a stretch of time; counts, and seconds and tokens as sums."""

    channel: str
    release: str
    requests: int = 0
    errors: int = 0
    """Answers with a status of 500 and above, and refusals for want of room (429): not what a client did wrong."""
    buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    first_buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int = 0

    def plus(self, other: Passing) -> Passing:
        return self._with(other, 1)

    def minus(self, other: Passing) -> Passing:
        return self._with(other, -1)

    def _with(self, other: Passing, sign: int) -> Passing:
        return Passing(
            channel=self.channel,
            release=self.release,
            requests=self.requests + sign * other.requests,
            errors=self.errors + sign * other.errors,
            buckets=[a + sign * b for a, b in zip(self.buckets, other.buckets, strict=True)],
            first_buckets=[a + sign * b for a, b in zip(self.first_buckets, other.first_buckets, strict=True)],
            input_tokens=self.input_tokens + sign * other.input_tokens,
            output_tokens=self.output_tokens + sign * other.output_tokens,
            cost_micros=self.cost_micros + sign * other.cost_micros,
        )


class LiveRow(msgspec.Struct, frozen=True, kw_only=True):
    """One channel and release over the last half minute. Latencies in seconds; None where nothing was answered."""

    channel: str
    release: str
    requests_per_second: float
    error_rate: float | None
    p50_s: float | None
    p95_s: float | None
    first_token_p50_s: float | None
    tokens_per_second: float
    dollars_per_hour: float


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """All of it: how many workers say so, and what they have not answered yet. No workers: no gateway runs."""

    workers: int
    in_flight: int
    rows: list[LiveRow]


class _Written(msgspec.Struct):
    seconds: float
    in_flight: int
    passing: list[Passing]


class LiveWriter:
    """One worker's last half minute, written down whenever it is asked to, for the other processes to read."""

    def __init__(self, folder: Path, worker: str, *, started_s: float) -> None:
        self._path = folder / f"{worker}.live"
        self._before: deque[tuple[float, dict[tuple[str, str], Passing]]] = deque([(started_s, {})])

    def write(self, totals: Iterable[Passing], *, in_flight: int, now_s: float) -> None:
        """`totals` are what the worker counted since `started_s`; `now_s` is by the same clock, which never goes back.

        Raises `OSError`.
        """
        now: dict[tuple[str, str], Passing] = {}
        for total in totals:
            key = (total.channel, total.release)
            now[key] = total.plus(now[key]) if key in now else total
        self._before.append((now_s, now))
        while len(self._before) > 1 and self._before[1][0] <= now_s - STRETCH_S:
            self._before.popleft()
        since_s, before = self._before[0]
        passing = [total.minus(before[key]) if key in before else total for key, total in now.items()]
        written = _Written(now_s - since_s, in_flight, [one for one in passing if one.requests])
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_name(f".{self._path.name}.new")
        unfinished.write_bytes(msgspec.msgpack.encode(written))
        os.replace(unfinished, self._path)

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def read_live(folder: Path, *, labels: Mapping[str, str] | None = None) -> Live:
    """What the workers of the running gateway wrote last, added up, the busiest first. `labels` names releases."""
    found = list(_read(folder))
    rows: dict[tuple[str, str], tuple[Passing, float]] = {}
    for written in found:
        for one in written.passing:
            key = (one.channel, one.release)
            known = rows.get(key)
            rows[key] = (
                (one, written.seconds) if known is None else (known[0].plus(one), max(known[1], written.seconds))
            )
    shown = [_row(passing, seconds, labels or {}) for passing, seconds in rows.values()]
    return Live(
        workers=len(found),
        in_flight=sum(written.in_flight for written in found),
        rows=sorted(shown, key=lambda row: (-row.requests_per_second, row.channel, row.release)),
    )


def percentile(buckets: Sequence[int], part: float) -> float | None:
    """Seconds below which `part` (0 to 1) of the counted latencies lie, evenly spread within a bucket."""
    total = sum(buckets)
    if not total:
        return None
    wanted, passed, lower = part * total, 0, 0.0
    for bound, count in zip(SECONDS, buckets, strict=False):
        if count and passed + count >= wanted:
            return lower + (bound - lower) * (wanted - passed) / count
        passed, lower = passed + count, bound
    return SECONDS[-1]


def _row(passing: Passing, seconds: float, labels: Mapping[str, str]) -> LiveRow:
    each_s = 1 / max(seconds, 1.0)
    return LiveRow(
        channel=passing.channel,
        release=labels.get(passing.release, passing.release),
        requests_per_second=passing.requests * each_s,
        error_rate=passing.errors / passing.requests if passing.requests else None,
        p50_s=percentile(passing.buckets, 0.5),
        p95_s=percentile(passing.buckets, 0.95),
        first_token_p50_s=percentile(passing.first_buckets, 0.5),
        tokens_per_second=(passing.input_tokens + passing.output_tokens) * each_s,
        dollars_per_hour=passing.cost_micros * each_s * 3600 / 1_000_000,
    )


def _read(folder: Path) -> Iterable[_Written]:
    for path in sorted(folder.glob("*.live")):
        try:
            if time.time() - path.stat().st_mtime <= OLD_AFTER_S:
                yield msgspec.msgpack.decode(path.read_bytes(), type=_Written)
        except (OSError, ValueError):
            continue  # of a worker that is just ending
