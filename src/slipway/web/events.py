"""One event stream a page: says which of its topics changed, at most once a second."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from slipway.domain.feedback import Alert, Finding
from slipway.domain.release import Channel, Evidence, Release
from slipway.domain.review import Review, ReviewItem, SignOff
from slipway.watch.live import read_live
from slipway.workspace import Workspace

EVERY_S = 1.0
HEARTBEAT_S = 15.0
LONGEST_S = 15.0
"""A stream ends after this, so that a server that stops does not wait for it; the browser connects again by itself and
nothing is missed (see `Last-Event-ID`)."""
MOST_TOPICS = 20
LATE = timedelta(minutes=10)
"""A trace that arrives out of order is noticed when it began within this time."""


async def stream(request: Request) -> Response:
    """`/events?topics=jobs,traces,…`: an event `changed` with the topic as data whenever one looks different."""
    topics = [topic for topic in request.query_params.get("topics", "").split(",") if topic][:MOST_TOPICS]
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    known = request.headers.get("last-event-id", "")
    return StreamingResponse(
        _events(request.app.state.current.workspace, topics, known), media_type="text/event-stream", headers=headers
    )


async def _events(workspace: Workspace, topics: list[str], known: str) -> AsyncIterator[str]:
    marks = _read_known(known) or await run_in_threadpool(look, workspace, topics)
    yield f"retry: 1000\nid: {json.dumps(marks)}\n\n"
    began = said = time.monotonic()
    while time.monotonic() - began < LONGEST_S:
        now = await run_in_threadpool(look, workspace, topics)
        changed = [topic for topic in topics if now[topic] != marks.get(topic)]
        marks = now
        for topic in changed:
            yield f"event: changed\nid: {json.dumps(marks)}\ndata: {topic}\n\n"
        if changed:
            said = time.monotonic()
        elif time.monotonic() - said > HEARTBEAT_S:
            said = time.monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(EVERY_S)


def look(workspace: Workspace, topics: list[str]) -> dict[str, str]:
    """What each topic looks like now, as a short text that differs when something changed."""
    return {topic: _mark(workspace, topic) for topic in topics}


def _mark(workspace: Workspace, topic: str) -> str:
    records = workspace.store.records
    name, _, id = topic.partition(":")
    match name:
        case "jobs":
            from slipway.web.work import mark_of_jobs

            return mark_of_jobs(workspace)
        case "job":
            from slipway.web.work import mark_of_job

            return mark_of_job(workspace, id)
        case "traces":
            newest = workspace.store.traces.list(limit=1).rows
            now = workspace.now()
            lately = workspace.store.traces.series(since=now - LATE, until=now)
            return f"{newest[0].id if newest else ''} {sum(point.count for point in lately)}"
        case "releases":
            changed = [channel.changed_at.isoformat() for channel in records.list(Channel)]
            return f"{records.count(Release)} {records.count(Evidence)} {records.count(SignOff)} {' '.join(changed)}"
        case "findings":
            return f"{records.count(Finding)} {records.count(Finding, state='open')}"
        case "review":
            return f"{records.count(ReviewItem)} {records.count(Review)}"
        case "alerts":
            return str(records.count(Alert))
        case "live":
            return str(hash(msgspec.json.encode(read_live(workspace.state / "workers"))))
        case _:
            return ""


def _read_known(text: str) -> dict[str, str]:
    try:
        known = json.loads(text)
    except ValueError:
        return {}
    return {str(topic): str(mark) for topic, mark in known.items()} if isinstance(known, dict) else {}
