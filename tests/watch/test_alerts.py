"""Alerts: parsed with clear errors, told once for one cause, quiet at night, posted to a real webhook."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import msgspec
import pytest

from slipway.domain.errors import ConfigError
from slipway.domain.ids import new_span_id, new_trace_id
from slipway.domain.trace import Span, Status
from slipway.watch.alerts import check_alerts, is_quiet, open_alerts, parse_condition, tell_alerts

if TYPE_CHECKING:
    from slipway.workspace import Workspace

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def record(workspace: Workspace, statuses: list[Status], *, at: datetime) -> None:
    start = int(at.timestamp() * 1e9)
    workspace.store.traces.add(
        [
            Span(
                trace=new_trace_id(),
                span=new_span_id(),
                name="answer",
                kind="request",
                start_ns=start,
                end_ns=start + 5_000_000,
                status=status,
                project=workspace.application,
            )
            for status in statuses
        ]
    )


def watching(workspace: Workspace, now: datetime, **watch: object) -> Workspace:
    settings = msgspec.structs.replace(
        workspace.settings, watch=msgspec.structs.replace(workspace.settings.watch, **watch)
    )
    return replace(workspace, settings=settings, now=lambda: now)


def test_an_alert_opens_once_and_resolves_when_its_cause_is_gone(workspace: Workspace) -> None:
    record(workspace, ["ok"] * 20 + ["error"] * 10, at=NOW - timedelta(minutes=5))
    during = watching(workspace, NOW, alerts=["error_rate > 0.05 over 15m"])
    assert [alert.condition for alert in check_alerts(during)] == ["error_rate > 0.05 over 15m"]
    assert check_alerts(during) == []
    assert len(open_alerts(during)) == 1
    record(workspace, ["ok"] * 40, at=NOW + timedelta(minutes=25))
    after = watching(workspace, NOW + timedelta(minutes=30), alerts=["error_rate > 0.05 over 15m"])
    assert check_alerts(after) == []
    assert open_alerts(after) == []


def test_a_handful_of_requests_says_nothing(workspace: Workspace) -> None:
    record(workspace, ["error"] * 5, at=NOW - timedelta(minutes=5))
    assert check_alerts(watching(workspace, NOW, alerts=["error_rate > 0.05 over 15m"])) == []


WRONG = [
    pytest.param("error_rate is high", "not a condition", id="no comparison"),
    pytest.param("eror_rate > 0.1 over 5m", "Did you mean 'error_rate'", id="misspelt measure"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_wrong_condition_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_condition(text)


QUIET = [
    pytest.param("22-07", 23, True, id="before midnight"),
    pytest.param("22-07", 6, True, id="after midnight"),
    pytest.param("22-07", 7, False, id="the end is not quiet"),
    pytest.param("9-17", 12, True, id="within a day"),
    pytest.param("", 3, False, id="no quiet hours"),
]


@pytest.mark.parametrize(("hours", "hour", "quiet"), QUIET)
def test_quiet_hours_may_cross_midnight(hours: str, hour: int, quiet: bool) -> None:
    assert is_quiet(hours, NOW.replace(hour=hour)) is quiet


def test_wrong_quiet_hours_are_named() -> None:
    with pytest.raises(ConfigError, match="quiet_hours"):
        is_quiet("night", NOW)


def test_a_new_alert_is_posted_to_the_webhook(workspace: Workspace) -> None:
    got: list[dict[str, object]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Hook)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        record(workspace, ["abstained"] * 30, at=NOW - timedelta(minutes=5))
        watched = watching(
            workspace,
            NOW,
            alerts=["unanswered_rate > 0.5 over 15m"],
            webhook=f"http://127.0.0.1:{server.server_port}/alerts",
        )
        new = check_alerts(watched)
        assert asyncio.run(tell_alerts(watched, new)) == 1
        assert asyncio.run(tell_alerts(watching(watched, NOW, quiet_hours="11-13"), new)) == 0
    finally:
        server.shutdown()
        server.server_close()
    assert [alert["condition"] for alert in got[0]["alerts"]] == ["unanswered_rate > 0.5 over 15m"]  # type: ignore[attr-defined]
