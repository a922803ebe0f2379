"""What users asked, without what Slipway asked itself while it evaluated and closed gaps."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from slipway.domain.rollup import Histogram, RollupPoint
from slipway.workspace import Workspace

OWN_CHANNELS = ("evaluate", "learn")
"""Channels on which Slipway asks by itself."""
ONLY_USERS = " and ".join(f'channel != "{channel}"' for channel in OWN_CHANNELS)
ONLY_OWN = " or ".join(f'channel = "{channel}"' for channel in OWN_CHANNELS)


def user_traffic(workspace: Workspace, *, since: datetime, until: datetime, step_s: int) -> list[RollupPoint]:
    """Roll-ups of users' requests, one point a step."""
    points = workspace.store.traces.series(since=since, until=until, by="channel", step_s=step_s)
    return merge(point for point in points if point.key not in OWN_CHANNELS)


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
