"""Is it still good? Traffic, latency, errors, cost and quality on one time axis; alerts, drift, resources."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from slipway.domain.feedback import Alert
from slipway.domain.rollup import RollupPoint
from slipway.release.parts import list_releases
from slipway.watch.alerts import check_alerts, open_alerts
from slipway.watch.drift import measure_drift
from slipway.watch.quality import Quality, watch_quality
from slipway.watch.questions import questions_between
from slipway.watch.resources import Spending, measure_machine, spending
from slipway.watch.upstreams import read_health
from slipway.web.charts import LineChart, Mark, Point, Series
from slipway.web.filter import SINCE, moment_since
from slipway.web.frame import Crumb
from slipway.web.number import compact, count, micros, money, plural, seconds, share, size
from slipway.web.page import Done, View, Visit, act, page
from slipway.web.pages.traces import release_labels
from slipway.web.table import Column, Row, Table
from slipway.web.traffic import user_traffic
from slipway.workspace import Workspace

STEPS = {"1h": 60, "24h": 1800, "7d": 4 * 3600, "30d": 86400}
TALL = 130
MARGINS = (64, 84)
WINDOWS = 12
SPENDING = (
    Column(key="key", label="Release"),
    Column(key="requests", label="Requests", number=True),
    Column(key="errors", label="Errors", number=True),
    Column(key="tokens", label="Tokens", number=True),
    Column(key="cost", label="Cost", number=True),
    Column(key="each", label="Cost / request", number=True),
    Column(key="p50", label="p50", number=True),
    Column(key="p95", label="p95", number=True),
)


def show(visit: Visit) -> View:
    workspace = visit.workspace
    now = workspace.now()
    chosen = visit.ask("since", "24h")
    chosen = chosen if chosen in STEPS else "24h"
    since = moment_since(chosen, now) or now - timedelta(days=1)
    points = user_traffic(workspace, since=since, until=now, step_s=STEPS[chosen])
    machine = measure_machine(workspace)
    labels = release_labels(workspace)
    data: dict[str, Any] = {
        "since": chosen,
        "choices": [choice for choice in SINCE if choice[0] in STEPS],
        "charts": time_charts(points, _marks(workspace, since), (since.timestamp(), now.timestamp())),
        "any": bool(points),
        "alerts": open_alerts(workspace),
        "past": [alert for alert in workspace.store.records.list(Alert, limit=20) if alert.resolved_at],
        "conditions": workspace.settings.watch.alerts,
        "upstreams": read_health(workspace.state / "workers"),
        "spending": _spending(spending(workspace, since=since, until=now), labels),
        "machine": [
            ("Load", f"{machine.load:.2f}", f"on {plural(machine.cores, 'core')}"),
            ("Memory of this process", size(machine.process_memory), f"{size(machine.memory_available)} free"),
            ("Slipway on disk", size(machine.disk_used_by_slipway), f"{size(machine.disk_free)} free"),
            ("Journal waiting", size(machine.journal_bytes), "acknowledged, not yet indexed"),
        ],
        "quality": None,
        "shifts": None,
        "part": visit.ask("part"),
    }
    if visit.ask("part") == "quality":
        seen = watch_quality(workspace, since=since, until=now, windows=WINDOWS)
        data["quality"] = seen
        data["quality_chart"] = quality_chart(seen, (since.timestamp(), now.timestamp()), _marks(workspace, since))
        data["labels"] = labels
    if visit.ask("part") == "drift":
        visit.require("see_content")
        data["shifts"] = measure_drift(
            questions_between(workspace, since=since - (now - since) * 3, until=since),
            questions_between(workspace, since=since, until=now),
            embedder=workspace.embedder,
        )
    return View("watch.html", "Watch", data, (Crumb("Watch"),))


def check(visit: Visit) -> Done:
    new = check_alerts(visit.workspace)
    return Done(
        "/watch", f"{plural(len(new), 'new alert')}." if new else "No new alert: every condition was looked at."
    )


def time_charts(points: Sequence[RollupPoint], marks: Sequence[Mark], span: tuple[float, float]) -> list[LineChart]:
    """Traffic, latency, what went wrong, and cost, all over the same stretch of time."""
    first = [Mark(mark.x, mark.label) for mark in marks]

    def chart(
        title: str, series: Sequence[Series], write: Callable[[float], str], top: float | None = None
    ) -> LineChart:
        return LineChart(
            title=title,
            series=series,
            x_kind="time",
            format=write,
            axis_format=write if write is not count else compact,
            marks=first,
            span=span,
            top=top,
            tall=TALL,
            margins=MARGINS,
        )

    def line(name: str, read: Callable[[RollupPoint], float | None]) -> Series:
        return Series(name=name, points=[Point(point.minute.timestamp(), read(point)) for point in points])

    return [
        chart("Requests", [line("requests", lambda point: float(point.count))], count),
        chart(
            "Latency",
            [
                line("p50", lambda point: point.latency.percentile(0.5)),
                line("p95", lambda point: point.latency.percentile(0.95)),
            ],
            seconds,
        ),
        chart(
            "Not answered as asked",
            [
                line("errors", lambda point: point.errors / point.count if point.count else None),
                line("abstained", lambda point: point.abstained / point.count if point.count else None),
                line("blocked", lambda point: point.blocked / point.count if point.count else None),
            ],
            share,
            top=1.0,
        ),
        chart("Cost", [line("cost", lambda point: point.cost_micros / 1e6)], money),
    ]


def quality_chart(quality: Quality, span: tuple[float, float], marks: Sequence[Mark]) -> LineChart:
    """Context overlap and answered share of the sampled answers, with their intervals."""
    overlap = [
        Point(
            point.start.timestamp(),
            point.grounded,
            point.grounded_interval.low if point.grounded_interval else None,
            point.grounded_interval.high if point.grounded_interval else None,
        )
        for point in quality.points
    ]
    answered = [Point(point.start.timestamp(), point.answered) for point in quality.points]
    return LineChart(
        title="Quality of sampled answers",
        series=[Series(name="context overlap", points=overlap), Series(name="answered", points=answered)],
        x_kind="time",
        format=share,
        axis_format=share,
        marks=marks,
        span=span,
        top=1.0,
        tall=200,
    )


def _marks(workspace: Workspace, since: datetime) -> list[Mark]:
    """Releases that were cut in this time."""
    recent = [release for release in list_releases(workspace) if release.created_at >= since]
    return [Mark(release.created_at.timestamp(), release.label) for release in recent[:6]]


def _spending(rows: Sequence[Spending], labels: dict[str, str]) -> Table:
    return Table(
        caption="Use by release",
        columns=SPENDING,
        rows=[
            Row(
                cells={
                    "key": labels.get(row.key, row.key[:12] or "no release"),
                    "requests": count(row.requests),
                    "errors": count(row.errors),
                    "tokens": f"{count(row.input_tokens)} → {count(row.output_tokens)}",
                    "cost": micros(row.cost_micros),
                    "each": micros(round(row.per_request_micros)),
                    "p50": seconds(None if row.p50_ms is None else row.p50_ms / 1000),
                    "p95": seconds(None if row.p95_ms is None else row.p95_ms / 1000),
                }
            )
            for row in rows
        ],
    )


ROUTES = [page("/watch", show), act("/watch/alerts", check, back=show, needs="run_evaluation")]
