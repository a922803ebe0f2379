"""Is this application ready, and what is open? The rail of the candidate, the releases, what needs me."""

from datetime import timedelta
from typing import Any, NamedTuple

from slipway.domain.feedback import Finding
from slipway.domain.release import Gate, Measure, Release
from slipway.release.evidence import latest_evidence
from slipway.release.gate import gate_release
from slipway.release.parts import list_releases
from slipway.web import work
from slipway.web.frame import Crumb, count_waiting
from slipway.web.number import UNKNOWN, count, micros, plural, quantity, seconds, share
from slipway.web.page import Done, View, Visit, act, page
from slipway.web.rail import read_rail
from slipway.web.table import Column, Row, Table, tag
from slipway.web.traffic import latency_of, total, user_traffic
from slipway.workspace import Workspace

STATE_TONES = {"candidate": "warn", "live": "pass", "retired": ""}
SHOWN_RELEASES = 20
COLUMNS = (
    Column(key="release", label="Release"),
    Column(key="state", label="State"),
    Column(key="model", label="Model", mono=True),
    Column(key="prompt", label="Prompt", mono=True),
    Column(key="index", label="Index", mono=True),
    Column(key="quality", label="Quality", number=True),
    Column(key="p95", label="p95", number=True),
    Column(key="cost", label="Cost / request", number=True),
    Column(key="evidence", label="Gate"),
)


class Todo(NamedTuple):
    """Something that waits for a person."""

    what: str
    why: str
    href: str


def show(visit: Visit) -> View:
    workspace = visit.workspace
    releases = list_releases(workspace)
    data: dict[str, Any] = {"release": None, "jobs": work.running(workspace)}
    if releases:
        candidate = releases[0]
        gate = gate_release(workspace, candidate)
        state = workspace.store.records.state(Release, candidate.id)
        data |= {
            "release": candidate,
            "state": state,
            "tone": STATE_TONES[state],
            "gate": gate,
            "other": releases[1] if len(releases) > 1 else None,
            "stations": read_rail(workspace, candidate),
            "releases": release_table(workspace, releases[:SHOWN_RELEASES]),
            "todo": what_waits(workspace, candidate, gate),
            "figures": last_day(workspace),
            "endpoint": f"{visit.request.url.scheme}://{visit.request.url.netloc}/v1",
        }
    return View("overview.html", "Overview", data, (Crumb("Overview"),))


def bring_up(visit: Visit) -> Done:
    visit.start("up", "Bring the application up")
    return Done("/", "The application is being brought up.")


def release_table(workspace: Workspace, releases: list[Release]) -> Table:
    """Releases with their state, parts and key figures."""
    rows = []
    for release in releases:
        state = workspace.store.records.state(Release, release.id)
        measures = {
            measure.name: measure
            for evidence in latest_evidence(workspace, release).values()
            for measure in evidence.measures
        }
        gate = gate_release(workspace, release)
        closed = sum(check.state != "passed" for check in gate.checks)
        checks = plural(len(gate.checks), "check")
        rows.append(
            Row(
                href=f"/release/{release.number}",
                cells={
                    "release": release.label,
                    "state": tag(state, STATE_TONES[state]),
                    "model": release.model.name,
                    "prompt": release.prompt or UNKNOWN,
                    "index": release.index or UNKNOWN,
                    "quality": _first(measures, "quality", "overlap", "answered"),
                    "p95": _first(measures, "seconds_p95", "p95", "latency_p50"),
                    "cost": _first(measures, "cost", "cost_per_request", "dollars"),
                    "evidence": f"{closed} of {checks} closed" if closed else f"open, {checks} passed",
                },
            )
        )
    return Table(caption="Releases", columns=COLUMNS, rows=rows)


def what_waits(workspace: Workspace, release: Release, gate: Gate) -> list[Todo]:
    """Closed checks, alerts, answers to review, findings to route."""
    from slipway.watch.alerts import open_alerts

    todo = [
        Todo(f"{check.name}: {check.state}", check.reason, f"/release/{release.number}")
        for check in gate.checks
        if check.state != "passed"
    ]
    todo += [Todo(alert.condition, alert.message, "/watch") for alert in open_alerts(workspace)]
    waiting = count_waiting(workspace)
    if waiting:
        todo.append(Todo(f"Review {plural(waiting, 'answer')}", "people have not rated them yet", "/review"))
    findings = workspace.store.records.count(Finding, state="open")
    if findings:
        todo.append(
            Todo(f"Route {plural(findings, 'finding')}", "each goes to prompt, knowledge or training", "/learn")
        )
    return todo


def last_day(workspace: Workspace) -> list[tuple[str, str, str]]:
    """Users' requests of the last day."""
    now = workspace.now()
    whole = total(user_traffic(workspace, since=now - timedelta(days=1), until=now, step_s=3600))
    return [
        ("Requests", count(whole.count if whole else 0), ""),
        ("Errors", share(whole.errors / whole.count) if whole else UNKNOWN, ""),
        ("Latency p95", seconds(latency_of(whole).percentile(0.95)), ""),
        ("Cost", micros(whole.cost_micros if whole else 0), ""),
    ]


def _first(measures: dict[str, Measure], *names: str) -> str:
    found = next((measures[name] for name in names if name in measures), None)
    return quantity(found.value, found.unit) if found else UNKNOWN


ROUTES = [page("/", show), act("/up", bring_up, back=show, needs="cut_release")]
