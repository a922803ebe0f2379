"""The pages of traces: filters that help, conversations, people, costs, thousands of steps, comparison and replay."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from starlette.testclient import TestClient

from slipway.domain.feedback import Feedback
from slipway.domain.ids import SpanId, SubjectId, TraceId, new_span_id
from slipway.domain.trace import Span
from slipway.release.parts import cut_release
from slipway.retrieve.index import build_index
from slipway.watch.replay import replays_of

from .conftest import client_of
from .html import Page
from .seed import EVIL, LONG, request_spans

if TYPE_CHECKING:
    from slipway.workspace import Workspace


def read(client: TestClient, path: str, status: int = 200, **headers: str) -> Page:
    answer = client.get(path, headers=headers)
    assert answer.status_code == status, answer.text[:2000]
    page = Page(answer.text)
    assert page.problems == [], path
    return page


def add_conversation(workspace: Workspace, count: int = 3) -> list[TraceId]:
    """Turns of one conversation and person, with tokens and money."""
    now = workspace.now()
    made = []
    for number in range(count):
        start = round((now - timedelta(minutes=count - number)).timestamp() * 1e9)
        span = Span(
            trace=TraceId(f"{number + 1:032x}"),
            span=SpanId(f"{number + 1:016x}"),
            name="chat",
            kind="request",
            start_ns=start,
            end_ns=start + 1_000_000_000,
            status="ok",
            session=f"talk/{EVIL}",
            subject=SubjectId("p-1"),
            provider="openai",
            model="gpt-4o-mini",
            input_tokens=1000,
            output_tokens=100,
            cost_micros=210,
            content={
                "messages": [{"role": "user", "text": f"Turn {number} {EVIL}"}],
                "reply": f"Reply {number} {LONG}",
            },
        )
        workspace.store.traces.add([span])
        made.append(span.trace)
    return made


def add_many_steps(workspace: Workspace, count: int) -> TraceId:
    """One trace with a long list of calls below its root, every hundredth with steps of its own; one of them failed."""
    start = round((workspace.now() - timedelta(hours=1)).timestamp() * 1e9)
    root = Span(
        trace=TraceId("ab" * 16), span=SpanId("00" * 8), name="agent run", kind="agent", start_ns=start,
        end_ns=start + count * 1_000_000, status="ok", content={"input": "Do it all"},
    )  # fmt: skip
    spans = [root]
    parent = root.span
    for number in range(1, count):
        below = number % 100 in (1, 2, 3) and number > 100
        step = replace(
            root,
            span=SpanId(f"{number:016x}"),
            parent=parent if below else root.span,
            name=f"step {number}",
            kind="tool",
            start_ns=start + number * 1_000_000,
            end_ns=start + (number + 1) * 1_000_000,
            status="error" if number == count - 7 else "ok",
            content={"result": f"result {number}"},
        )
        parent = step.span if number % 100 == 0 else parent
        spans.append(step)
    for at in range(0, len(spans), 1000):
        workspace.store.traces.add(spans[at : at + 1000])
    return root.trace


def test_a_wrong_filter_is_shown_where_it_was_written(empty_pages: TestClient) -> None:
    answer = empty_pages.get("/traces?filter=status+%3D+ok+and+latenzy+%3E+1")
    assert answer.status_code == 400
    assert "<mark>latenzy" in answer.text
    page = Page(answer.text)
    assert "Did you mean 'latency'?" in page.text
    assert "menu" in page.ids


def test_filters_and_words_work_together(workspace: Workspace) -> None:
    add_conversation(workspace)
    client = client_of(workspace)
    page = read(client, "/traces?q=turn+2&filter=span.kind+%3D+request+and+not+status+%3D+error")
    assert "Turn 2 " in page.text
    assert "Turn 0 " not in page.text
    assert "No trace matches" in read(client, "/traces?filter=cost+%3E+%24900&since=").text


def test_columns_are_remembered_once_somebody_keeps_them(workspace: Workspace) -> None:
    add_conversation(workspace)
    client = client_of(workspace)

    def heads(path: str) -> list[str]:
        return re.findall(r'<th scope="col"[^>]*>([^<]*)', client.get(path).text)

    usual = heads("/traces")
    assert heads("/traces?column=time&column=session") == ["Time", "Session"]
    assert heads("/traces") == usual
    answer = client.post("/traces/columns", data={"column": ["time", "session", "<b>"], "q": "x"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/traces")
    assert heads("/traces") == ["Time", "Session"]


def test_conversations_and_people_are_listed_and_opened(workspace: Workspace) -> None:
    add_conversation(workspace, 60)
    client = client_of(workspace)
    listed = read(client, "/traces/sessions")
    assert "60" in listed.text
    href = next(link for link in listed.links if link.startswith("/traces/session?"))
    talk = read(client, href)
    assert talk.text.index("Turn 10 ") < talk.text.index("Turn 59 ")
    assert "Turn 9 " not in talk.text
    earlier = next(link for link in talk.links if "after=" in link)
    assert "Turn 9 " in read(client, earlier).text
    people = read(client, "/traces/people")
    person = next(link for link in people.links if link.startswith("/traces?filter="))
    assert "Turn 59" in read(client, person).text
    for path in ("/traces/sessions", href):
        assert "<script>alert" not in client.get(path).text


def test_costs_are_taken_apart(workspace: Workspace) -> None:
    add_conversation(workspace)
    client = client_of(workspace)
    page = read(client, "/traces/costs")
    for words in ("gpt-4o-mini", "p-1", "Most expensive operations", "$0.00063"):
        assert words in page.text
    part = {"HX-Request": "true", "HX-Target": "repeats"}
    assert "3 calls" in read(client, "/traces/costs?part=repeats", **part).text
    assert "A cache would save" in read(client, "/traces/costs?part=repeats").text


EMPTY = ["/traces", "/traces/sessions", "/traces/people", "/traces/costs", "/traces/session?id=none"]


@pytest.mark.parametrize("path", EMPTY)
def test_a_page_without_traffic_says_what_to_do(empty_pages: TestClient, path: str) -> None:
    page = read(empty_pages, path)
    assert page.headings.count(1) == 1
    assert any(word in page.text for word in ("slipway release ask", "x-slipway-session", "user.id", "listed under"))


def test_a_trace_of_thousands_of_steps_is_shown_a_part_at_a_time(workspace: Workspace) -> None:
    id = add_many_steps(workspace, 1500)
    client = client_of(workspace)
    first = client.get(f"/traces/{id}")
    assert len(re.findall(r"<[a-z]", first.text)) < 2000
    page = Page(first.text)
    assert "1,500 spans" in page.text
    assert "step 1 " in page.text
    assert "step 1400" not in page.text
    seen = 0
    later = f"/traces/{id}"
    while later:
        page = read(client, later)
        seen += len(set(re.findall(r"step \d+", page.text)))
        later = next((link for link in page.links if "&from=" in link and _from(link) > _from(later)), "")
    # Every hundredth step has three of its own, shown when it is opened.
    inside = sum(1 for number in range(101, 1500) if number % 100 in (1, 2, 3))
    assert seen == 1499 - inside
    opened = read(client, f"/traces/{id}?span={200:016x}")
    for words in ("step 200", "step 201", "step 203", "result 200"):
        assert words in opened.text
    failed = read(client, f"/traces/{id}?only=failed")
    assert "step 1493" in failed.text
    assert "step 1 " not in failed.text


def _from(link: str) -> int:
    found = re.search(r"from=(\d+)", link)
    return int(found[1]) if found else 0


def test_steps_in_a_circle_and_without_parents_are_all_shown(workspace: Workspace) -> None:
    id = add_many_steps(workspace, 3)
    odd = replace(workspace.store.traces.get(id).root, name="lost", parent=SpanId("ee" * 8), span=new_span_id())
    one, other = SpanId("c1" * 8), SpanId("c2" * 8)
    circle = [replace(odd, name="chicken", span=one, parent=other), replace(odd, name="egg", span=other, parent=one)]
    workspace.store.traces.add([odd, *circle, replace(odd, name="own", span=SpanId("dd" * 8), parent=SpanId("dd" * 8))])
    text = read(client_of(workspace), f"/traces/{id}").text
    for name in ("agent run", "step 1", "step 2", "lost", "chicken", "egg", "own"):
        assert name in text


def test_money_is_shown_by_section(workspace: Workspace) -> None:
    (id, *_) = add_conversation(workspace, 1)
    page = read(client_of(workspace), f"/traces/{id}")
    assert "Where the money goes" in page.text
    assert "Question" in page.text


def test_a_thumb_a_score_and_a_label_are_kept(workspace: Workspace) -> None:
    (id, *_) = add_conversation(workspace, 1)
    client = client_of(workspace)
    client.post(f"/traces/{id}/note", data={"thumbs": "up"})
    client.post(f"/traces/{id}/note", data={"score": "bad", "name": "tone", "label": "rude", "comment": EVIL})
    voices = workspace.store.records.list(Feedback, where={"trace": id})
    assert sorted((voice.score, voice.name, voice.label) for voice in voices) == [(-1.0, "tone", "rude"), (1.0, "", "")]
    assert "rude" in read(client, f"/traces/{id}").text
    assert id[:16] in client.get("/traces?filter=label+%3D+rude&column=trace").text


def test_a_trace_is_replayed_and_compared(workspace: Workspace) -> None:
    build_index(workspace)
    release = cut_release(workspace)
    spans = request_spans(
        release, "What does express shipping cost?", "Nine euros.", "ok", began=workspace.now() - timedelta(hours=1),
        took_s=1.0, who=1,
    )  # fmt: skip
    workspace.store.traces.add(spans)
    id = spans[0].trace
    client = client_of(workspace)
    answer = client.post(f"/traces/{id}/replay", data={"release": release.label})
    assert answer.status_code == 303, answer.text
    page = read(client, answer.headers["location"])
    assert "the second is a replay of the first" in page.text
    assert "12 euros" in page.text
    (made,) = replays_of(workspace, id).by
    assert f"/traces/{id}/compare/{made}" in read(client, f"/traces/{id}").links
    assert f"/traces/{id}" in read(client, f"/traces/{made}").links
    typed = client.post(f"/traces/{made}/compare", data={"other": id})
    assert typed.headers["location"] == f"/traces/{made}/compare/{id}"
    assert "There is no trace" in client.post(f"/traces/{made}/compare", data={"other": "nothing"}).text
    assert "There is no release" in client.post(f"/traces/{id}/replay", data={"release": "lamps@99"}).text
    # A replay is no traffic of users.
    assert made[:16] not in client.get("/traces?column=trace").text


def test_the_page_shows_what_an_answer_came_from_and_marks_what_nothing_supports(workspace: Workspace) -> None:
    passage = {"document": "shipping.md", "start": 10, "end": 42, "text": "Express shipping costs 12 euros."}
    start = round(workspace.now().timestamp() * 1e9)
    said = "Express shipping costs 12 euros [1]. The moon is made of cheese."
    root = Span(
        trace=TraceId("5" * 32),
        span=new_span_id(),
        name="answer",
        kind="request",
        start_ns=start,
        end_ns=start + 1000,
        status="ok",
        content={"question": "What does it cost?", "answer": said},
    )
    found = replace(root, span=new_span_id(), parent=root.span, kind="retrieval", content={"passages": [passage]})
    workspace.store.traces.add([root, replace(found, index="documents@1")])
    text = client_of(workspace).get(f"/traces/{root.trace}").text
    assert "What the answer came from" in text
    assert text.count("<mark") == 1
    assert '<mark title="no passage supports this sentence">The moon is made of cheese.</mark>' in text
    assert "1 sentence without support" in text
    assert "/retrieve/document/shipping.md?start=10&amp;end=42&amp;index=documents@1" in text
    workspace.store.traces.add([replace(root, trace=TraceId("6" * 32))])
    assert "What the answer came from" not in client_of(workspace).get(f"/traces/{'6' * 32}").text
