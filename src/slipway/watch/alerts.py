"""Alerts: conditions over the roll-ups, told once for one cause, quiet at night."""

import json
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from slipway.domain.errors import ConfigError, did_you_mean
from slipway.domain.feedback import Alert
from slipway.domain.ids import new_id
from slipway.domain.rollup import Histogram
from slipway.domain.trace import OWN_CHANNELS
from slipway.upstream.client import HttpClient
from slipway.workspace import Workspace

CONDITION = re.compile(
    r"(?P<measure>[a-z0-9_]+)\s*(?P<sign>[<>]=?)\s*(?P<bound>\d+(?:\.\d+)?)\s+over\s+(?P<minutes>\d+)m"
)
SIGNS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
MEASURES = ("requests", "error_rate", "unanswered_rate", "blocked_rate", "p50_ms", "p95_ms", "cost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """`error_rate > 0.05 over 15m`: rates from 0 to 1, latencies in milliseconds, cost in dollars."""

    text: str
    measure: str
    sign: str
    bound: float
    window: timedelta

    def holds(self, value: float) -> bool:
        return SIGNS[self.sign](value, self.bound)


def parse_condition(text: str) -> Condition:
    """A condition of [watch] alerts. Raises `ConfigError` with an example."""
    found = CONDITION.fullmatch(text.strip())
    if found is None:
        raise ConfigError("[watch] alerts", f"'{text}' is not a condition. Write it like 'error_rate > 0.05 over 15m'.")
    if found["measure"] not in MEASURES:
        raise ConfigError(
            "[watch] alerts", f"unknown measure '{found['measure']}'.{did_you_mean(found['measure'], MEASURES)}"
        )
    return Condition(
        text=text.strip(),
        measure=found["measure"],
        sign=found["sign"],
        bound=float(found["bound"]),
        window=timedelta(minutes=int(found["minutes"])),
    )


def check_alerts(workspace: Workspace, *, fewest: int = 20) -> list[Alert]:
    """Opens an alert for each condition that holds and resolves those that hold no longer; returns what is new.

    Fewer than `fewest` requests in the window say nothing, except for conditions on `requests` themselves.
    """
    now = workspace.now()
    new = []
    for text in workspace.settings.watch.alerts:
        condition = parse_condition(text)
        values = measure_window(workspace, since=now - condition.window, until=now)
        value = values[condition.measure]
        enough = condition.measure == "requests" or (values["requests"] or 0) >= fewest
        holds = enough and value is not None and condition.holds(value)
        standing = next((alert for alert in open_alerts(workspace) if alert.key == condition.text), None)
        if holds and standing is None and value is not None:
            alert = Alert(
                id=new_id(),
                key=condition.text,
                condition=condition.text,
                message=f"{condition.measure} is {value:.3g} over {condition.window.seconds // 60} minutes",
                value=value,
                created_at=now,
            )
            workspace.store.records.save(alert, state="open")
            new.append(alert)
        elif standing is not None and enough and not holds:
            workspace.store.records.save(replace(standing, resolved_at=now), state="resolved")
    return new


def open_alerts(workspace: Workspace) -> list[Alert]:
    """Alerts whose cause still stands, newest first."""
    return workspace.store.records.list(Alert, state="open")


def measure_window(workspace: Workspace, *, since: datetime, until: datetime) -> dict[str, float | None]:
    """Every measure of conditions over a window of users' traffic, from the roll-ups; None where there was none."""
    series = workspace.store.traces.series(since=since, until=until, by="channel")
    points = [point for point in series if point.key not in OWN_CHANNELS]
    count = sum(point.count for point in points)
    latency = sum((point.latency for point in points), Histogram())
    p50, p95 = latency.percentile(0.5), latency.percentile(0.95)
    return {
        "requests": float(count),
        "error_rate": sum(point.errors for point in points) / count if count else None,
        "unanswered_rate": sum(point.abstained for point in points) / count if count else None,
        "blocked_rate": sum(point.blocked for point in points) / count if count else None,
        "p50_ms": None if p50 is None else p50 * 1000,
        "p95_ms": None if p95 is None else p95 * 1000,
        "cost": sum(point.cost_micros for point in points) / 1e6,
    }


def is_quiet(hours: str, now: datetime) -> bool:
    """Whether `now` lies in quiet hours such as `22-07` (UTC); empty is never. Raises `ConfigError`."""
    if not hours:
        return False
    found = re.fullmatch(r"(\d{1,2})-(\d{1,2})", hours)
    if found is None or not all(int(hour) < 24 for hour in found.groups()):
        raise ConfigError("[watch] quiet_hours", f"'{hours}' is not a stretch of hours. Write it like '22-07'.")
    start, end = map(int, found.groups())
    return start <= now.hour < end if start <= end else now.hour >= start or now.hour < end


async def tell_alerts(workspace: Workspace, alerts: list[Alert], *, http: HttpClient | None = None) -> int:
    """Posts alerts to the webhook as JSON, unless there is none or the hours are quiet; returns how many went out.

    Raises `EngineError` when the webhook cannot be reached; the alerts stay in the list either way.
    """
    settings = workspace.settings.watch
    if not alerts or not settings.webhook or is_quiet(settings.quiet_hours, workspace.now()):
        return 0
    body = json.dumps(
        {
            "application": workspace.application,
            "alerts": [
                {"condition": alert.condition, "message": alert.message, "at": alert.created_at.isoformat()}
                for alert in alerts
            ],
        }
    ).encode()
    response = await (http or workspace.http).send(
        "POST", settings.webhook, headers=(("content-type", "application/json"),), body=body
    )
    await response.read()
    return len(alerts)
