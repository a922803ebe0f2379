"""Numbers per minute, kind, release, channel and model: added at ingest, read by pages, alerts and economics."""

import struct
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, delete, select

from slipway.domain.rollup import Histogram, RollupPoint, bucket_of
from slipway.domain.trace import Span
from slipway.store.databases.base import Database
from slipway.store.schema import rollup

MINUTE_NS = 60_000_000_000
SUMS = (
    "count",
    "errors",
    "abstained",
    "blocked",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cost_micros",
)
HISTOGRAMS = ("latency", "first_token")
KEYS = ("project", "minute", "root", "kind", "release", "channel", "model")
MODEL_KINDS = frozenset({"chat", "embeddings", "rerank", "evaluator"})
"""Kinds that call a model: their tokens and money are what a trace costs; others may repeat the sum."""


class RollupKey(NamedTuple):
    """What one row is about."""

    minute: int
    root: bool
    kind: str
    release: str
    channel: str
    model: str


@dataclass
class Sums:
    """What is added to one row."""

    numbers: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    latency: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    first_token: dict[int, int] = field(default_factory=lambda: defaultdict(int))


class Tally:
    """The additions of one batch, by row."""

    def __init__(self) -> None:
        self.rows: dict[RollupKey, Sums] = defaultdict(Sums)

    def add(self, span: Span, *, root: bool, pays: bool) -> None:
        """Counts one span. `pays`: whether its tokens and money count (see `MODEL_KINDS`)."""
        sums = self.rows[_key(span, root)]
        numbers = sums.numbers
        numbers["count"] += 1
        numbers["errors"] += span.status == "error"
        numbers["abstained"] += span.status == "abstained"
        numbers["blocked"] += span.status == "blocked"
        sums.latency[bucket_of(max(0, span.end_ns - span.start_ns))] += 1
        if span.first_token_ns is not None:
            sums.first_token[bucket_of(max(0, span.first_token_ns))] += 1
        if pays:
            numbers["input_tokens"] += span.input_tokens
            numbers["output_tokens"] += span.output_tokens
            numbers["cached_tokens"] += span.cached_tokens
            numbers["cost_micros"] += span.cost_micros


def _key(span: Span, root: bool) -> RollupKey:
    return RollupKey(
        span.start_ns // MINUTE_NS,
        root,
        span.kind,
        span.release or "",
        span.channel,
        span.model or span.response_model,
    )


def write_tally(connection: Connection, database: Database, project: str, tally: Tally) -> None:
    """Adds a batch to the rows that are there. The caller's lock keeps other writers of the project off."""
    if not tally.rows:
        return
    minutes = sorted({key.minute for key in tally.rows})
    found: dict[RollupKey, Any] = {}
    for at in range(0, len(minutes), 400):
        statement = select(rollup).where(rollup.c.project == project, rollup.c.minute.in_(minutes[at : at + 400]))
        for row in connection.execute(statement):
            found[RollupKey(row.minute, bool(row.root), row.kind, row.release, row.channel, row.model)] = row
    rows = []
    for key, sums in tally.rows.items():
        before = found.get(key)
        rows.append(
            {
                "project": project,
                **key._asdict(),
                **{name: sums.numbers[name] + (getattr(before, name) if before else 0) for name in SUMS},
                **{
                    name: pack_histogram(_added(getattr(sums, name), getattr(before, name) if before else b""))
                    for name in HISTOGRAMS
                },
            }
        )
    connection.execute(database.upsert(rollup, KEYS), rows)


def read_series(
    connection: Connection,
    project: str,
    *,
    since: datetime,
    until: datetime,
    by: Literal["release", "model", "channel"] | None,
    step_s: int,
) -> list[RollupPoint]:
    """Points in order of time and key; see `Traces.series`."""
    statement = select(rollup).where(
        rollup.c.project == project,
        rollup.c.minute >= _ns(since) // MINUTE_NS,
        rollup.c.minute * 60 < until.timestamp(),
    )
    step = max(1, step_s // 60)
    points: dict[tuple[int, str], Sums] = defaultdict(Sums)
    for row in connection.execute(statement):
        called = row.kind in MODEL_KINDS
        if by == "model" and not called:
            continue
        sums = points[row.minute // step * step, getattr(row, by) if by else ""]
        for name in ("input_tokens", "output_tokens", "cached_tokens", "cost_micros"):
            sums.numbers[name] += getattr(row, name)
        # Requests are counted by their root; calls of models by the spans that made them.
        if by == "model" or row.root:
            for name in ("count", "errors", "abstained", "blocked"):
                sums.numbers[name] += getattr(row, name)
            for name in HISTOGRAMS:
                _add_to(getattr(sums, name), unpack_histogram(getattr(row, name)))
    return [
        RollupPoint(
            minute=datetime.fromtimestamp(minute * 60, UTC),
            key=key,
            latency=Histogram(counts=tuple(sorted(sums.latency.items()))),
            first_token=Histogram(counts=tuple(sorted(sums.first_token.items()))),
            **{name: sums.numbers[name] for name in SUMS},
        )
        for (minute, key), sums in sorted(points.items())
    ]


def forget_rollups(connection: Connection, project: str, *, before: datetime) -> int:
    """Removes rows older than a moment; returns how many."""
    done = connection.execute(
        delete(rollup).where(rollup.c.project == project, rollup.c.minute < _ns(before) // MINUTE_NS)
    )
    return done.rowcount


def pack_histogram(counts: dict[int, int]) -> bytes:
    """(bucket, count) as pairs of 16 and 32 bits."""
    return b"".join(struct.pack("<HI", bucket, count) for bucket, count in sorted(counts.items()))


def unpack_histogram(packed: bytes) -> Iterable[tuple[int, int]]:
    pairs: Iterable[tuple[int, int]] = struct.iter_unpack("<HI", packed)
    return pairs


def _added(counts: dict[int, int], packed: bytes) -> dict[int, int]:
    _add_to(counts, unpack_histogram(packed))
    return counts


def _add_to(counts: dict[int, int], pairs: Iterable[tuple[int, int]]) -> None:
    for bucket, count in pairs:
        counts[bucket] += count


def _ns(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000) * 1000
