"""Numbers per minute, kind, release, channel and model: added at ingest, read by pages, alerts and economics."""

import struct
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import numpy as np
from sqlalchemy import Connection, Row, delete, select

from slipway.domain.rollup import Histogram, RollupPoint, bucket_of
from slipway.domain.trace import Span
from slipway.store.databases.base import Database
from slipway.store.schema import rollup

MINUTE_NS = 60_000_000_000
LARGEST_SUM = 2**63 - 1
"""What a column holds. A sum that would be more stays there, so that the minute goes on counting what comes."""
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


FIRST_SUM = len(RollupKey._fields)
"""Place of the first sum in a row that begins with its key."""


class Sums:
    """What is added to one row: numbers in the order of `SUMS`, and (bucket, count)."""

    __slots__ = ("first_token", "latency", "numbers")

    def __init__(self) -> None:
        self.numbers = [0] * len(SUMS)
        self.latency: defaultdict[int, int] = defaultdict(int)
        self.first_token: defaultdict[int, int] = defaultdict(int)


class Tally:
    """The additions of one batch, by row."""

    def __init__(self) -> None:
        self.rows: defaultdict[tuple[int, bool, str, str, str, str], Sums] = defaultdict(Sums)
        """By `RollupKey`, as a plain tuple."""

    def add(self, span: Span, *, root: bool, pays: bool) -> None:
        """Counts one span. `pays`: whether its tokens and money count (see `MODEL_KINDS`)."""
        sums = self.rows[
            span.start_ns // MINUTE_NS,
            root,
            span.kind,
            span.release or "",
            span.channel,
            span.model or span.response_model,
        ]
        numbers = sums.numbers
        numbers[0] += 1
        if span.status != "ok":
            numbers[1] += span.status == "error"
            numbers[2] += span.status == "abstained"
            numbers[3] += span.status == "blocked"
        sums.latency[bucket_of(span.end_ns - span.start_ns)] += 1
        if span.first_token_ns is not None:
            sums.first_token[bucket_of(span.first_token_ns)] += 1
        if pays:
            numbers[4] += span.input_tokens
            numbers[5] += span.output_tokens
            numbers[6] += span.cached_tokens
            numbers[7] += span.cost_micros


def write_tally(connection: Connection, database: Database, project: str, tally: Tally) -> None:
    """Adds a batch to the rows that are there. The caller's lock keeps other writers of the project off."""
    if not tally.rows:
        return
    minutes = sorted({minute for minute, *_ in tally.rows})
    found: dict[tuple[int, bool, str, str, str, str], Row[Any]] = {}
    for at in range(0, len(minutes), 400):
        some = minutes[at : at + 400]
        sql = f"{_BEFORE} where project = ? and minute in ({', '.join('?' * len(some))})"
        for row in database.raw(connection, sql, (project, *some)):
            found[row.minute, bool(row.root), row.kind, row.release, row.channel, row.model] = row
    rows = []
    for key, sums in tally.rows.items():
        before = found.pop(key, None)
        if before is not None:
            sums.numbers = [number + before[FIRST_SUM + place] for place, number in enumerate(sums.numbers)]
            _add_to(sums.latency, unpack_histogram(before.latency))
            _add_to(sums.first_token, unpack_histogram(before.first_token))
        numbers = [min(number, LARGEST_SUM) for number in sums.numbers]
        rows.append((project, *key, *numbers, pack_histogram(sums.latency), pack_histogram(sums.first_token)))
    database.raw_many(connection, _upsert(), rows)


def _upsert() -> str:
    columns = (*KEYS, *SUMS, *HISTOGRAMS)
    changed = ", ".join(f'"{name}" = excluded."{name}"' for name in (*SUMS, *HISTOGRAMS))
    return (
        f"insert into rollup ({_named(columns)}) values ({', '.join('?' * len(columns))}) "
        f"on conflict ({_named(KEYS)}) do update set {changed}"
    )


def _named(columns: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)


_BEFORE = f"select {_named((*RollupKey._fields, *SUMS, *HISTOGRAMS))} from rollup"


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
    columns = [rollup.c[name] for name in (*RollupKey._fields, *SUMS, *HISTOGRAMS)]
    statement = select(*columns).where(
        rollup.c.project == project,
        rollup.c.minute >= _ns(since) // MINUTE_NS,
        rollup.c.minute * 60 < until.timestamp(),
    )
    step = max(1, step_s // 60)
    points: defaultdict[tuple[int, str], _Point] = defaultdict(_Point)
    for row in connection.execute(statement):
        if by == "model" and row.kind not in MODEL_KINDS:
            continue
        point = points[row.minute // step * step, getattr(row, by) if by else ""]
        numbers = point.numbers
        for place in range(4, 8):
            numbers[place] += row[FIRST_SUM + place]
        # Requests are counted by their root; calls of models by the spans that made them.
        if by == "model" or row.root:
            for place in range(4):
                numbers[place] += row[FIRST_SUM + place]
            point.latency.append(row.latency)
            point.first_token.append(row.first_token)
    return [
        RollupPoint(
            minute=datetime.fromtimestamp(minute * 60, UTC),
            key=key,
            latency=sum_of(point.latency),
            first_token=sum_of(point.first_token),
            **dict(zip(SUMS, point.numbers, strict=True)),
        )
        for (minute, key), point in sorted(points.items())
    ]


class _Point:
    """What the rows of one step and key add up to; histograms are added when all of them are there."""

    __slots__ = ("first_token", "latency", "numbers")

    def __init__(self) -> None:
        self.numbers = [0] * len(SUMS)
        self.latency: list[bytes] = []
        self.first_token: list[bytes] = []


def sum_of(packed: Iterable[bytes]) -> Histogram:
    """Many packed histograms as one."""
    pairs = np.frombuffer(b"".join(packed), dtype=[("bucket", "<u2"), ("count", "<u4")])
    # Sums of fewer than 2**53 are exact, although they are made as floats.
    counts = np.bincount(pairs["bucket"], weights=pairs["count"]).astype(np.int64)
    found = np.flatnonzero(counts)
    return Histogram(counts=tuple(zip(found.tolist(), counts[found].tolist(), strict=True)))


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


def _add_to(counts: dict[int, int], pairs: Iterable[tuple[int, int]]) -> None:
    for bucket, count in pairs:
        counts[bucket] += count


def _ns(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000) * 1000
