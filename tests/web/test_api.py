"""/api/v1 for programs: the same verbs as pages and commands, errors as JSON, keys instead of cookies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from starlette.testclient import TestClient

from slipway.access.keys import create_key
from slipway.domain.feedback import Feedback
from slipway.domain.ids import SpanId, SubjectId, TraceId
from slipway.domain.trace import Span
from slipway.release.parts import cut_release
from slipway.retrieve.index import build_index
from slipway.web.app import create_app

from .conftest import client_of

if TYPE_CHECKING:
    from slipway.workspace import Workspace

ONE, TWO = f"{1:032x}", f"{2:032x}"


@pytest.fixture
def api(workspace: Workspace) -> TestClient:
    """Twenty-five requests of two people in two sessions, and a release."""
    build_index(workspace)
    cut_release(workspace)
    start = round((datetime.now(UTC) - timedelta(hours=2)).timestamp() * 1e9)
    workspace.store.traces.add(
        [
            Span(
                trace=TraceId(f"{number:032x}"),
                span=SpanId(f"{number:016x}"),
                name="chat",
                kind="request",
                start_ns=start + number * 1_000_000_000,
                end_ns=start + number * 1_100_000_000,
                status="ok",
                session=f"s{number % 2}",
                subject=SubjectId(f"p-{number % 2}"),
                provider="openai",
                model="gpt-4o-mini",
                input_tokens=100 * number,
                output_tokens=10,
                cost_micros=number,
                content={
                    "messages": [{"role": "user", "text": "What does shipping cost?"}],
                    "reply": f"{number} euros",
                },
            )
            for number in range(1, 26)
        ]
    )
    return client_of(workspace)


def get(api: TestClient, path: str, status: int = 200) -> Any:
    answer = api.get(f"/api/v1{path}")
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    return answer.json()


def test_traces_are_listed_page_by_page(api: TestClient) -> None:
    first = get(api, "/traces?filter=input_tokens+%3E+2000&limit=3")
    second = get(api, f"/traces?filter=input_tokens+%3E+2000&limit=3&after={first['next']}")
    assert [int(row["id"], 16) for row in first["traces"] + second["traces"]] == [25, 24, 23, 22, 21]
    assert second["next"] is None
    assert get(api, "/traces?q=giraffe") == {"traces": [], "next": None}
    assert len(get(api, "/traces?user=p-1&since=24h")["traces"]) == 13


def test_a_trace_has_its_sections_and_feedback(api: TestClient) -> None:
    found = get(api, f"/traces/{ONE}")
    assert found["trace"]["spans"][0]["content"]["reply"] == "1 euros"
    assert [section["name"] for section in found["sections"]] == ["question", "answer"]
    assert (found["feedback"], found["replays"]) == ([], {"of": None, "by": []})


def test_traces_are_compared_replayed_and_noted_on(api: TestClient, workspace: Workspace) -> None:
    compared = get(api, f"/traces/{ONE}/diff/{TWO}")
    assert next(one for one in compared["figures"] if one["name"] == "input tokens")["after"] == 200
    made = api.post(f"/api/v1/traces/{ONE}/replay", json={"release": "lamps@1"})
    assert (made.status_code, made.json()["release"]) == (201, "lamps@1")
    assert get(api, f"/traces/{made.json()['trace']}")["replays"]["of"] == ONE
    note = api.post(f"/api/v1/traces/{ONE}/notes", json={"score": -0.5, "name": "tone", "label": "curt"})
    assert (note.status_code, note.json()["label"]) == (201, "curt")
    assert workspace.store.records.count(Feedback) == 1
    assert [row["id"] for row in get(api, "/traces?filter=score.tone+%3C+0")["traces"]] == [ONE]


def test_sums_costs_and_demand(api: TestClient) -> None:
    assert [group["key"] for group in get(api, "/users?order=dearest")["groups"]] == ["p-1", "p-0"]
    sessions = get(api, "/sessions?limit=1")
    assert get(api, f"/sessions?limit=1&after={sessions['next']}")["next"] is None
    costs = get(api, "/costs?since=24h")
    assert (costs["cost_micros"], costs["repeats"]["repeated"]) == (sum(range(1, 26)), 24)
    assert get(api, "/traffic")["output_tokens"] == 10


WRONG = [
    pytest.param("/traces?filter=latenzy+%3E+1", 400, "Did you mean 'latency'?", id="a misspelt filter"),
    pytest.param("/traces?limit=0", 400, "a number from 1 to 200", id="a limit of nothing"),
    pytest.param("/traces?since=yesterday", 400, "is no time for 'since'", id="a time in words"),
    pytest.param("/traces?since=2026-11-29", 400, "is no time for 'since'", id="a time without a zone"),
    pytest.param(f"/traces/{'ab' * 16}", 404, "There is no trace", id="a trace that is not there"),
    pytest.param(f"/traces/{ONE}/diff/{'ab' * 16}", 404, "There is no trace", id="nothing to compare with"),
    pytest.param("/traces/tail?filter=a", 400, "there is no field 'a'", id="a tail with a wrong filter"),
    pytest.param("/traffic?since=1h", 400, "a demand needs 20", id="too little traffic"),
]


@pytest.mark.parametrize(("path", "status", "reason"), WRONG)
def test_what_is_wrong_is_said_in_json(api: TestClient, path: str, status: int, reason: str) -> None:
    error = get(api, path, status)["error"]
    assert reason in error["message"]
    assert ("position" in error) == ("filter" in path)


WRONG_BODIES = [
    pytest.param("notes", b"{", "The body is not what is expected", id="no JSON"),
    pytest.param("notes", b'{"stars": 5}', "unknown field `stars`", id="an unknown field"),
    pytest.param("notes", b"{}", "The note is empty", id="nothing"),
    pytest.param("notes", b'{"thumbs": "sideways"}', "is no thumb", id="a thumb that is none"),
    pytest.param("replay", b'{"release": "lamps@99"}', "There is no release", id="a release that was never cut"),
    pytest.param("notes", b" " * 1_100_000, "larger than", id="a body without end"),
]


@pytest.mark.parametrize(("act", "body", "reason"), WRONG_BODIES)
def test_a_wrong_body_changes_nothing(
    api: TestClient, workspace: Workspace, act: str, body: bytes, reason: str
) -> None:
    answer = api.post(f"/api/v1/traces/{ONE}/{act}", content=body)
    assert answer.status_code in (400, 404)
    assert reason in answer.json()["error"]["message"]
    assert workspace.store.records.count(Feedback) == 0
    assert workspace.store.traces.count() == 25


def test_away_from_this_machine_a_key_with_a_role_is_needed(api: TestClient, workspace: Workspace) -> None:
    app = create_app(workspace, host="0.0.0.0", work_in_background=False)
    client = TestClient(app, base_url="http://slipway.example", follow_redirects=False)
    member = create_key(workspace.store, "ana", role="member", now=workspace.now())[1]
    viewer = create_key(workspace.store, "ben", role="viewer", now=workspace.now())[1]
    caller = create_key(workspace.store, "bot", now=workspace.now())[1]
    path = f"/api/v1/traces/{ONE}"
    asked = {name: client.get(path, headers={"Authorization": f"Bearer {key}"}) for name, key in
             {"member": member, "viewer": viewer, "caller": caller, "wrong": "sk-slip-nothing"}.items()}  # fmt: skip
    assert {name: answer.status_code for name, answer in asked.items()} == {
        "member": 200, "viewer": 403, "caller": 401, "wrong": 401,
    }  # fmt: skip
    assert asked["viewer"].json()["error"]["code"] == "insufficient_role"
    assert client.get(path).status_code == 401
    assert client.get("/api/v1/costs", headers={"Authorization": f"Bearer {viewer}"}).status_code == 200


def test_a_note_from_another_site_is_refused(api: TestClient) -> None:
    answer = api.post(f"/api/v1/traces/{ONE}/notes", json={"thumbs": "up"}, headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403


async def test_the_tail_streams_what_arrives(
    api: TestClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slipway.watch.tail import Tail
    from slipway.web import api as door

    monkeypatch.setattr(door, "EVERY_S", 0.01)
    stream = door._tail_events(Tail(workspace, query="status = error"))
    assert (await anext(stream)).startswith("retry:")
    root = workspace.store.traces.get(ONE).root
    for number, status in ((91, "ok"), (92, "error")):
        workspace.store.traces.add(
            [Span(trace=TraceId(f"{number:032x}"), span=SpanId(f"{number:016x}"), name="new", start_ns=root.start_ns,
                  end_ns=root.end_ns, status=status)]  # type: ignore[arg-type]
        )  # fmt: skip
    event = await anext(stream)
    assert event.startswith(f"event: trace\nid: {92:032x}\ndata: ")
    await stream.aclose()
