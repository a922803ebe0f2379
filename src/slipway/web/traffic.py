"""What users asked, without what Slipway asked itself while it evaluated and closed gaps."""

import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from weakref import WeakKeyDictionary

from slipway.domain.rollup import Histogram, RollupPoint
from slipway.domain.trace import OWN_CHANNELS
from slipway.workspace import Workspace

SETTLED = timedelta(hours=1)
FRESH_S = 60.0
ONLY_USERS = " and ".join(f'channel != "{channel}"' for channel in sorted(OWN_CHANNELS))
ONLY_OWN = " or ".join(f'channel = "{channel}"' for channel in sorted(OWN_CHANNELS))


def user_traffic(workspace: Workspace, *, since: datetime, until: datetime, step_s: int) -> list[RollupPoint]:
    """Roll-ups of users' requests, one point a step; begins with the whole step that `since` lies in.

    What is older than an hour is read once a minute: a week has ten thousand roll-ups, and hardly any still changes.
    """
    since = _floor(since, step_s)
    cut = max(since, _floor(until - SETTLED, step_s))
    known = _known.setdefault(workspace.store.traces, {})
    key = (since, cut, step_s)
    if key not in known or time.monotonic() - known[key].read_at > FRESH_S:
        for old in [old for old, kept in known.items() if time.monotonic() - kept.read_at > FRESH_S]:
            del known[old]
        known[key] = _Settled(time.monotonic(), _read(workspace, since, cut, step_s))
    return merge([*known[key].points, *_read(workspace, cut, until, step_s)])


class _Settled(NamedTuple):
    """Points of a stretch of time that has settled, and when they were read."""

    read_at: float
    points: list[RollupPoint]


_known: WeakKeyDictionary[object, dict[tuple[datetime, datetime, int], _Settled]] = WeakKeyDictionary()


def _read(workspace: Workspace, since: datetime, until: datetime, step_s: int) -> list[RollupPoint]:
    if since >= until:
        return []
    points = workspace.store.traces.series(since=since, until=until, by="channel", step_s=step_s)
    return merge(point for point in points if point.key not in OWN_CHANNELS)


def _floor(moment: datetime, step_s: int) -> datetime:
    return datetime.fromtimestamp(moment.timestamp() // step_s * step_s, UTC)


def merge(points: Iterable[RollupPoint]) -> list[RollupPoint]:
    """Points of several keys as one point a step, in the order of time."""
    merged: dict[datetime, RollupPoint] = {}
    for point in points:
        known = merged.get(point.minute)
        merged[point.minute] = replace(point, key="") if known is None else _sum(known, point)
    return [merged[minute] for minute in sorted(merged)]


def total(points: Iterable[RollupPoint]) -> RollupPoint | None:
    """All points as one; None when there are none."""
    whole: RollupPoint | None = None
    for point in points:
        whole = point if whole is None else _sum(whole, point)
    return whole


def latency_of(point: RollupPoint | None) -> Histogram:
    return Histogram() if point is None else point.latency


def _sum(one: RollupPoint, other: RollupPoint) -> RollupPoint:
    return replace(
        one,
        count=one.count + other.count,
        errors=one.errors + other.errors,
        abstained=one.abstained + other.abstained,
        blocked=one.blocked + other.blocked,
        input_tokens=one.input_tokens + other.input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        cost_micros=one.cost_micros + other.cost_micros,
        latency=one.latency + other.latency,
    )
