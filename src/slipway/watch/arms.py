"""How good the answers of each release of a channel were, by the users' word or by a sampled score."""

from __future__ import annotations

from datetime import datetime
from random import Random
from typing import assert_never

from slipway.domain.feedback import Feedback
from slipway.domain.ids import ReleaseId, TraceId
from slipway.domain.release import Channel
from slipway.domain.routing import QualityMetric
from slipway.domain.trace import TraceSummary
from slipway.release.canary import Scores
from slipway.watch.quality import score_trace
from slipway.workspace import Workspace

MOST_TRACES = 2000
"""Newest traces of a release that are looked at."""
MOST_SCORED = 200
"""Answers of a release whose text is compared with its passages; each has to be opened."""


def score_arms(
    workspace: Workspace, channel: Channel, metric: QualityMetric, *, since: datetime
) -> dict[ReleaseId, Scores]:
    """Scores of the answers that each release of a channel gave since then.

    `feedback` is the users' and judges' word, from -1..1 to 0..1, the newest for each trace. `grounded` and
    `answered` are read from a sample of [watch] sample, the same one at each call.
    """
    found: dict[ReleaseId, Scores] = {}
    for share in channel.shares:
        rows = _traces(workspace, channel.name, share.release, since)
        match metric:
            case "feedback":
                values = _feedback(workspace, {row.id for row in rows}, since)
            case "answered":
                values = [float(row.status == "ok") for row in _sample(workspace, rows)]
            case "grounded":
                values = _grounded(workspace, _sample(workspace, rows)[:MOST_SCORED])
            case _:
                assert_never(metric)
        found[share.release] = Scores(len(values), sum(values))
    return found


def _traces(workspace: Workspace, channel: str, release: ReleaseId, since: datetime) -> list[TraceSummary]:
    rows: list[TraceSummary] = []
    after: str | None = None
    while len(rows) < MOST_TRACES:
        page = workspace.store.traces.list(channel=channel, release=release, since=since, limit=500, after=after)
        rows += page.rows
        after = page.next
        if after is None:
            break
    return rows


def _feedback(workspace: Workspace, traces: set[TraceId], since: datetime) -> list[float]:
    voices: dict[TraceId, float] = {}
    for voice in workspace.store.records.list(Feedback, limit=MOST_TRACES):
        if voice.created_at >= since and voice.trace in traces:
            voices.setdefault(voice.trace, (voice.score + 1) / 2)
    return list(voices.values())


def _sample(workspace: Workspace, rows: list[TraceSummary]) -> list[TraceSummary]:
    """The trace itself decides whether it is in: a second look finds the same ones."""
    share = workspace.settings.watch.sample
    finished = [row for row in rows if row.status != "cancelled"]
    return [row for row in finished if Random(row.id).random() < share]


def _grounded(workspace: Workspace, rows: list[TraceSummary]) -> list[float]:
    scores = (score_trace(workspace.store.traces.get(row.id)).grounded for row in rows)
    return [score for score in scores if score is not None]
