"""Stored traffic as the demand of a decision and of a plan, and as a file that load tools replay."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import msgspec

from slipway.config.settings import Settings
from slipway.domain.errors import TrafficTooLittle
from slipway.domain.expense import TrafficShape
from slipway.domain.trace import OWN_CHANNELS
from slipway.store.files import write_text
from slipway.store.trace_sums import Arrived, read_arrivals
from slipway.workspace import Workspace

FEWEST = 20
"""Fewer requests say little about a mean, and nothing about a peak."""


def read_traffic(workspace: Workspace, *, since: datetime, until: datetime | None = None) -> Iterator[Arrived]:
    """Users' requests in the order of arrival, with their tokens; what Slipway asked itself is left out."""
    return read_arrivals(workspace.store.traces, since=since, until=until or workspace.now(), without=OWN_CHANNELS)


def measure_traffic(workspace: Workspace, *, since: datetime, until: datetime | None = None) -> TrafficShape:
    """Requests a day, mean lengths and the peak of the traffic in [since, until).

    The day begins with the first request, so that a week without traffic before it does not thin it out; requests
    without counted tokens are left out of the lengths. Raises `TrafficTooLittle` for fewer than 20 requests.
    """
    until = until or workspace.now()
    requests = counted = into = out = longest = 0
    minutes: Counter[int] = Counter()
    first: datetime | None = None
    for arrived in read_traffic(workspace, since=since, until=until):
        first = first or arrived.at
        requests += 1
        minutes[int(arrived.at.timestamp() // 60)] += 1
        if arrived.input_tokens or arrived.output_tokens:
            counted += 1
            into += arrived.input_tokens
            out += arrived.output_tokens
            longest = max(longest, arrived.input_tokens + arrived.output_tokens)
    if first is None or counted < FEWEST:
        raise TrafficTooLittle(min(requests, counted), needed=FEWEST)
    span_s = max(60.0, (until - first).total_seconds())
    points = workspace.store.traces.series(since=since, until=until, by="channel", step_s=86400)
    users = [point for point in points if point.key not in OWN_CHANNELS]
    sent = sum(point.input_tokens for point in users)
    return TrafficShape(
        since=first,
        until=until,
        requests=requests,
        requests_per_day=requests * 86400 / span_s,
        input_tokens=into / counted,
        output_tokens=out / counted,
        longest_tokens=longest,
        peak_factor=max(1.0, max(minutes.values()) / (requests * 60 / span_s)),
        cached_share=min(1.0, sum(point.cached_tokens for point in users) / sent) if sent else 0.0,
    )


def with_traffic(workspace: Workspace, shape: TrafficShape) -> Workspace:
    """The same workspace whose [decide] says what was measured; everything else in it stays as it was answered."""
    return replace(workspace, settings=settings_with(workspace.settings, shape))


def settings_with(settings: Settings, shape: TrafficShape) -> Settings:
    """[decide] with the measured requests, lengths, peak and cached share; `context_tokens` grows where it must."""
    grown = max(settings.decide.context_tokens, shape.longest_tokens)
    decide = msgspec.structs.replace(settings.decide, **demand_of(shape), context_tokens=grown)
    return msgspec.structs.replace(settings, decide=decide)


def demand_of(shape: TrafficShape) -> dict[str, float]:
    """The keys of [decide] that traffic answers, to four significant digits."""
    measured = {
        "requests_per_day": shape.requests_per_day,
        "input_tokens": max(1.0, shape.input_tokens),
        "output_tokens": max(1.0, shape.output_tokens),
        "peak_factor": shape.peak_factor,
        "cached_share": shape.cached_share,
    }
    return {name: float(f"{value:.4g}") for name, value in measured.items()}


def write_csv(path: Path, arrivals: Iterable[Arrived]) -> int:
    """Writes `arrival_s,input_tokens,output_tokens`, one request a line, seconds since the first; how many there were.

    Nothing in it is about a person. Raises `DiskFull`; the file appears whole or not at all.
    """
    lines = ["arrival_s,input_tokens,output_tokens"]
    first: datetime | None = None
    for arrived in arrivals:
        first = first or arrived.at
        at_s = (arrived.at - first).total_seconds()
        lines.append(f"{at_s:.6f},{arrived.input_tokens},{arrived.output_tokens}")
    write_text(path, "\n".join(lines) + "\n")
    return len(lines) - 1
