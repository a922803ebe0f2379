"""The event stream: says which topics changed, and misses nothing between two connections."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from slipway.domain.feedback import Finding
from slipway.domain.ids import new_id
from slipway.release.parts import cut_release
from slipway.retrieve.index import build_index
from slipway.web import events, work

from .conftest import client_of

if TYPE_CHECKING:
    from slipway.workspace import Workspace

TOPICS = ["jobs", "traces", "releases", "findings", "review", "alerts"]


def a_finding(workspace: Workspace) -> Finding:
    return Finding(
        id=new_id(), kind="gap", title="t", detail="d", route="knowledge", created_at=workspace.now(), questions=("q",)
    )


def test_a_topic_looks_different_when_something_happened(workspace: Workspace) -> None:
    before = events.look(workspace, TOPICS)
    work.start(workspace, "triage", "Look for findings")
    workspace.store.records.save(a_finding(workspace), state="open")
    build_index(workspace)
    cut_release(workspace)
    after = events.look(workspace, TOPICS)
    assert {topic for topic in TOPICS if before[topic] != after[topic]} == {"jobs", "findings", "releases"}


def test_a_job_of_its_own_is_followed(workspace: Workspace) -> None:
    job = work.start(workspace, "triage", "Look for findings")
    before = events.look(workspace, [f"job:{job}"])
    work.stop(workspace, job)
    assert events.look(workspace, [f"job:{job}"]) != before


def test_an_unknown_topic_never_changes(workspace: Workspace) -> None:
    assert events.look(workspace, ["nothing"]) == {"nothing": ""}


def test_the_stream_tells_what_changed_while_it_was_away(workspace: Workspace) -> None:
    known = json.dumps(events.look(workspace, ["findings"]))
    workspace.store.records.save(a_finding(workspace), state="open")

    async def first_two() -> list[str]:
        stream = events._events(workspace, ["findings"], known)
        return [await anext(stream), await anext(stream)]

    opening, change = asyncio.run(first_two())
    assert opening.startswith("retry: ")
    assert change.startswith("event: changed\n")
    assert change.endswith("data: findings\n\n")


def test_a_stream_ends_so_that_the_server_can(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LONGEST_S", 0.0)
    answer = client_of(workspace).get("/events?topics=findings")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "content-encoding" not in answer.headers
    assert answer.text.startswith("retry: 1000\nid: ")


@pytest.mark.parametrize("known", ["", "not json", "[]", '{"findings": 3}', "null"])
def test_a_garbled_last_event_id_is_no_error(workspace: Workspace, known: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LONGEST_S", 0.0)
    assert client_of(workspace).get("/events?topics=findings", headers={"Last-Event-ID": known}).status_code == 200
