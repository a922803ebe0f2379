"""The short way for requests that come and go whole: it answers, counts and records as the long way does."""

from __future__ import annotations

import json
import socket
from dataclasses import fields, replace
from typing import Any

import httpx
import msgspec
import pytest

from slipway.config.settings import GuardSettings
from slipway.domain.errors import DiskFull
from slipway.domain.trace import Span
from slipway.gateway import door
from slipway.gateway.door import Door
from slipway.gateway.express import Express, Passing
from slipway.guard.parts import guardrails_from_settings
from slipway.release.channels import promote
from slipway.workspace import open_workspace

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
OWN = {"trace", "span", "start_ns", "end_ns"}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What became of each request: `long` from its start, `answered` the short way, or `handed over` on it."""
    found: list[str] = []
    take, answer, go_on = Express.take, Express.answer, Passing._go_on

    def spy_take(self: Express, client: Any) -> Passing | None:
        passing = take(self, client)
        if passing is None:
            found.append("long")
        return passing

    def spy_answer(self: Express, *given: Any) -> None:
        found.append("answered")
        answer(self, *given)

    def spy_go_on(self: Passing, rest: Any) -> None:
        found.append("handed over")
        go_on(self, rest)

    monkeypatch.setattr(Express, "take", spy_take)
    monkeypatch.setattr(Express, "answer", spy_answer)
    monkeypatch.setattr(Passing, "_go_on", spy_go_on)
    return found


def told(span: Span) -> dict[str, Any]:
    return {field.name: getattr(span, field.name) for field in fields(Span) if field.name not in OWN}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"headers": {"x-slipway-subject": "anna", "x-slipway-session": "s1", "idempotency-key": "mine"}},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]},
        {"headers": {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}},
        {"temperature": 0.5, "user": "bert", "max_tokens": 9},
    ],
    ids=["plain", "headers", "parts", "traceparent", "fields"],
)
def test_both_ways_answer_and_record_the_same(folder, tools, taken, upstream, more):
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
        with tools.serving(workspace, warm=False) as served:
            long = served.chat("plain", **{"messages": MESSAGES} | more)
            if "traceparent" in more.get("headers", {}):
                more = {"headers": {"traceparent": f"00-{'12' * 16}-{'cd' * 8}-01"}}
            short = served.chat("plain", **{"messages": MESSAGES} | more)
            assert taken == ["long", "answered"]
            assert long.status_code == short.status_code == 200
            assert long.content == short.content
            own = {"x-request-id", "x-slipway-trace"}
            assert [(n, v) for n, v in long.headers.raw if n.decode() not in own] == [
                (n, v) for n, v in short.headers.raw if n.decode() not in own
            ]
            first, second = (served.trace(one.headers["x-slipway-trace"]) for one in (long, short))
            assert [told(span) for span in first] == [told(span) for span in second]
            asked = [body for body in upstream.state.requests if body["messages"]]
            assert asked[0] == asked[1]
            sent = [{n: v for n, v in headers.items() if n != b"traceparent"} for headers in upstream.state.headers]
            assert {n for n in sent[0] if n != b"idempotency-key"} == {n for n in sent[1] if n != b"idempotency-key"}
            line = served.gateway._counts.line("/v1/chat/completions", "plain", short.headers["x-slipway-release"])
            assert (line.statuses, line.input_tokens, line.output_tokens) == ({200: 2}, 240, 100)
            assert served.gateway._counts.in_flight == 0


@pytest.mark.parametrize("model", ["400", "429", "500", "garbage", "short", "reset", "filtered", "no-usage"])
def test_what_needs_a_closer_look_is_handed_over_with_what_came(folder, tools, taken, upstream, model):
    """The engine is not asked once more for what it has said already."""
    answers = []
    for warm in (False, True):
        upstream.state.__init__()
        with open_workspace(folder) as workspace, tools.serving(workspace, warm=warm) as served:
            answer = served.chat(f"fast/{model}")
            # A reused connection that breaks at once may have been closed before: the request is sent once more.
            asked = 0 if model == "reset" else upstream.state.asked[model]
            answers.append((answer.status_code, answer.content, asked))
            spans = served.traces()
            assert len(spans) == len({span.id for span in spans})
            assert served.gateway._counts.in_flight == 0
    assert "handed over" in taken
    assert answers[0] == answers[1]


def test_a_stream_goes_the_long_way(served, taken):
    assert served.chat("plain", stream=True).status_code == 200
    assert taken == ["long"]


def test_a_body_that_comes_after_its_headers_is_waited_for(served, taken):
    host, port = served.url.removeprefix("http://").split(":")
    body = json.dumps({"model": "plain", "messages": MESSAGES}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n" % len(body)
    with socket.create_connection((host, int(port)), timeout=30) as raw:
        for piece in (head, body[:10], body[10:]):
            raw.sendall(piece)
            # The next one only when the server has seen this one.
            assert httpx.get(f"{served.url}/healthz").status_code == 200
        assert raw.recv(65536).startswith(b"HTTP/1.1 200")
    assert taken == ["answered"]


def in_pieces(served: Any, body: bytes, size: int) -> Any:
    """Sends a request for a chat completion in pieces of so many bytes."""
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    return httpx.post(f"{served.url}/v1/chat/completions", content=pieces, headers=headers, timeout=30)


def test_a_long_body_that_comes_in_pieces_is_waited_for(served, taken):
    messages = [{"role": "user", "content": "long " * 40_000}]
    answer = in_pieces(served, json.dumps({"model": "plain", "messages": messages}).encode(), 30_000)
    assert answer.status_code == 200
    assert taken == ["answered"]
    (span,) = served.trace(answer.headers["x-slipway-trace"])
    assert span.content["messages"][0]["text"] == "long " * 40_000
    assert Door.waited_for == 0


def test_a_very_long_body_is_read_as_it_is_wanted(served, taken, until):
    host, port = served.url.removeprefix("http://").split(":")
    body = json.dumps({"model": "plain", "messages": [{"role": "user", "content": "long " * 80_000}]}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n" % len(body)
    with socket.create_connection((host, int(port)), timeout=30) as raw:
        raw.sendall(head + body[:300_000])
        assert until(lambda: served.gateway._counts.in_flight == 1)
        raw.sendall(body[300_000:])
        assert raw.recv(12) == b"HTTP/1.1 200"
    assert taken == []
    assert until(lambda: Door.waited_for == 0 and served.gateway._counts.in_flight == 0)


def test_long_bodies_are_waited_for_only_up_to_a_number(served, taken, until, monkeypatch):
    monkeypatch.setattr(door, "MOST_WAITED_FOR", 2)
    host, port = served.url.removeprefix("http://").split(":")
    body = json.dumps({"model": "plain", "messages": [{"role": "user", "content": "long " * 40_000}]}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n" % len(body)
    sockets = [socket.create_connection((host, int(port)), timeout=30) for _ in range(4)]
    for one in sockets:
        one.sendall(head + body[:100_000])
    assert until(lambda: Door.waited_for == 2)
    sockets.pop().close()
    for one in sockets:
        one.sendall(body[100_000:])
        assert one.recv(12) == b"HTTP/1.1 200"
        one.close()
    assert until(lambda: Door.waited_for == 0)


def test_a_body_above_the_limit_is_refused_however_it_comes(folder, tools, taken):
    with open_workspace(folder) as workspace:
        server = msgspec.structs.replace(workspace.settings.server, max_body_mb=0.01)
        small = replace(workspace, settings=msgspec.structs.replace(workspace.settings, server=server))
        promote(small, tools.plain_release(small), "plain", force=True)
        with tools.serving(small) as served:
            body = json.dumps({"model": "plain", "messages": [{"role": "user", "content": "long " * 4000}]}).encode()
            assert in_pieces(served, body, 30_000).status_code == 413
            assert in_pieces(served, body, 3_000).status_code == 413
    assert "answered" not in taken


def test_a_client_that_leaves_cancels_the_engine_at_once(patient, upstream, taken, until):
    host, port = patient.url.removeprefix("http://").split(":")
    body = json.dumps({"model": "fast/hang", "messages": MESSAGES}).encode()
    raw = socket.create_connection((host, int(port)), timeout=30)
    raw.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    )
    assert until(lambda: upstream.state.asked["hang"] == 1)
    raw.close()
    assert upstream.wait_cancelled("hang")
    assert until(lambda: patient.gateway._counts.in_flight == 0)
    (row,) = patient.traces()
    assert row.status == "cancelled"
    assert taken == []


def test_rails_work_on_the_short_way_too(folder, tools, taken, upstream):
    guard = GuardSettings(
        before=[{"rail": "personal_data", "action": "redact"}], after=[{"rail": "secrets", "action": "block"}]
    )
    with open_workspace(folder) as workspace:
        rails = guardrails_from_settings(tools.with_guard(workspace, guard).settings)
        promote(workspace, tools.plain_release(workspace, guardrails=rails), "railed", force=True)
        with tools.serving(workspace) as served:
            answer = served.chat("railed", messages=[{"role": "user", "content": "I am anna@example.org"}])
            assert answer.status_code == 200
            assert taken == ["answered"]
            (span,) = served.trace(answer.headers["x-slipway-trace"])
            assert "anna@example.org" not in json.dumps(span.content)
            assert "anna@example.org" not in json.dumps(upstream.state.requests)
            assert span.verdicts["personal_data"] == "redact"


def test_what_rails_took_out_is_not_in_the_trace_of_a_client_that_left(folder, tools, taken, upstream, until):
    toml = folder / "slipway.toml"
    toml.write_text(
        toml.read_text().replace("first_byte_s = 1.5", "first_byte_s = 60").replace("total_s = 5", "total_s = 60")
    )
    guard = GuardSettings(before=[{"rail": "personal_data", "action": "redact"}])
    with open_workspace(folder) as workspace:
        rails = guardrails_from_settings(tools.with_guard(workspace, guard).settings)
        promote(workspace, tools.plain_release(workspace, model="hang", guardrails=rails), "railed", force=True)
        with tools.serving(workspace) as served:
            host, port = served.url.removeprefix("http://").split(":")
            messages = [{"role": "user", "content": "I am anna@example.org"}]
            body = json.dumps({"model": "railed", "messages": messages}).encode()
            head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n" % len(body)
            with socket.create_connection((host, int(port)), timeout=30) as raw:
                raw.sendall(head + body)
                assert until(lambda: upstream.state.asked["hang"] == 1)
            assert until(lambda: served.gateway._counts.in_flight == 0)
            (row,) = served.traces()
            (span,) = served.trace(row.id)
            assert span.status == "cancelled"
            assert "I am" in json.dumps(span.content)
            assert "anna@example.org" not in json.dumps(span.content)
            assert span.verdicts["personal_data"] == "redact"
            assert taken == []


@pytest.mark.parametrize("room", ["for nothing", "without bodies"])
def test_a_full_disk_costs_the_trace_and_not_the_answer(served, taken, monkeypatch, room):
    counts, journal = served.gateway._counts, served.gateway._journal
    lost, shed = counts.traces_lost, counts.bodies_shed
    append_all = journal.append_all

    def full(payloads: Any) -> None:
        if room == "for nothing" or any(b"Be brief." in payload for payload in payloads):
            raise DiskFull(journal.folder)
        append_all(payloads)

    with monkeypatch.context() as patched:
        patched.setattr(journal, "append_all", full)
        answer = served.chat("plain", messages=MESSAGES)
    assert answer.status_code == 200
    assert taken == ["answered"]
    if room == "for nothing":
        assert (counts.traces_lost, counts.bodies_shed) == (lost + 1, shed)
    else:
        assert (counts.traces_lost, counts.bodies_shed) == (lost, shed + 1)


def test_what_nobody_expected_is_an_error_on_the_long_way_and_counts_once(served, taken, monkeypatch, caplog):
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("nobody expected this")

    before = served.gateway._counts.in_flight
    with monkeypatch.context() as patched:
        patched.setattr(served.gateway._services.budget.__class__, "called", broken)
        answer = served.chat("plain")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    with monkeypatch.context() as patched:
        patched.setattr(served.gateway._services.ledger, "flush", broken)
        assert served.chat("plain").status_code == 200
    assert taken == ["handed over", "answered"]
    assert served.gateway._counts.in_flight == before
    assert "nobody expected this" in caplog.text


def test_what_cannot_be_taken_goes_the_long_way_and_is_answered(served, taken, monkeypatch):
    def broken(_: Any) -> None:
        raise RuntimeError("nobody expected this")

    with monkeypatch.context() as patched:
        patched.setattr("slipway.gateway.express.find_route", broken)
        assert served.chat("plain").status_code == 200
    assert taken == ["long"]


def test_a_redacted_request_is_the_same_on_both_ways(folder, tools, upstream):
    guard = GuardSettings(before=[{"rail": "personal_data", "action": "redact"}])
    sent = []
    for warm in (False, True):
        upstream.state.__init__()
        with open_workspace(folder) as workspace:
            rails = guardrails_from_settings(tools.with_guard(workspace, guard).settings)
            promote(workspace, tools.plain_release(workspace, guardrails=rails), "railed", force=True)
            with tools.serving(workspace, warm=warm) as served:
                messages = [{"role": "user", "content": "I am anna@example.org"}]
                answer = served.chat("railed", messages=messages, temperature=0.25)
                assert answer.status_code == 200
        (request,) = [one for one in upstream.state.requests if one["messages"]]
        assert "anna@" not in json.dumps(request)
        assert (request["model"], request["temperature"]) == ("ok", 0.25)
        sent.append(request)
    assert sent[0] == sent[1]
