"""Answers that are worth nothing, and streams that break in awkward places, over both transports."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest

from slipway.domain.guardrail import Guardrails, RailSpec
from slipway.release.channels import promote
from slipway.workspace import open_workspace
from tests.gateway.test_hostile_engines import HELLO, USAGE, Engine, events, whole

RAILS = Guardrails(after=(RailSpec(name="personal_data", action="redact"),))
ROUTING = """
[upstream]
transport = "{transport}"
[routing]
breaker_failures = 0
retry_share = 0.0
[routing.fallback.backed]
to = ["fast/spare"]
"""
ERROR = {"error": {"message": "the provider is gone", "code": 502}}


def raw(status: str, body: bytes = b"", *, kind: str = "application/json", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{more}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def stream(body: bytes) -> bytes:
    return raw("200 OK", body, kind="text/event-stream")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        engine.says("spare", whole("I stand in", usage=USAGE))
        threading.Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield engine
        engine.shutdown()


@pytest.fixture(scope="module", params=["own", "aiohttp"])
def odd(tmp_path_factory: pytest.TempPathFactory, tools: Any, engine: Engine, request: Any) -> Iterator[Any]:
    """A gateway before it: `backed` has a fallback, `alone` has none, `checked` has rails."""
    if request.param == "aiohttp":
        pytest.importorskip("aiohttp", reason="aiohttp, the extra `aiohttp`, is not installed")
    url = f"http://127.0.0.1:{engine.server_address[1]}/v1"
    more = ROUTING.format(transport=request.param)
    folder = tools.make_application(tmp_path_factory.mktemp("odd") / "lamps", url, more)
    with open_workspace(folder) as workspace:
        for channel in ("backed", "alone"):
            promote(workspace, tools.plain_release(workspace, model=channel), channel, force=True)
        promote(workspace, tools.plain_release(workspace, model="checked", guardrails=RAILS), "checked", force=True)
        with tools.serving(workspace) as served:
            yield served


WORTHLESS = [
    pytest.param(raw("999 What", b"{}"), False, 502, id="a status that HTTP does not have"),
    pytest.param(raw("402 Payment Required", json.dumps(ERROR).encode()), False, 502, id="our account is empty"),
    pytest.param(raw("408 Request Timeout"), False, 408, id="408"),
    pytest.param(raw("200 OK", b"[1, 2]"), False, 502, id="a list"),
    pytest.param(raw("200 OK", b"null"), False, 502, id="null"),
    pytest.param(raw("200 OK", b'{"status": "ok"}'), False, 502, id="an object without choices"),
    pytest.param(raw("200 OK", b'{"id": "c", "usage": {"prompt_tokens": 1}}'), False, 502, id="usage without choices"),
    pytest.param(stream(b"the page of a proxy"), True, 502, id="a stream without an event"),
    pytest.param(stream(b"data: [DONE]\n\n"), True, 502, id="a stream that only says that it is over"),
    pytest.param(stream(b": one moment\n\n"), True, 502, id="a stream of comments"),
    pytest.param(
        stream(b": thinking\n\n: thinking\n\n" + events(ERROR, done=b"")), True, 502, id="an error after comments"
    ),
]


@pytest.mark.parametrize(("answer", "streamed", "status"), WORTHLESS)
def test_an_answer_that_is_worth_nothing_is_answered_by_the_fallback(odd, engine, answer, streamed, status):
    engine.answers["backed"] = engine.answers["alone"] = answer
    backed = odd.chat("backed", stream=streamed)
    assert (backed.status_code, backed.headers.get("x-slipway-fallback")) == (200, "fast/spare")
    assert "I stand in" in backed.text
    alone = odd.chat("alone", stream=streamed)
    assert alone.status_code == status
    assert len(alone.json()["error"]["message"]) > 10


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
def test_a_stream_that_says_nothing_is_an_error_in_every_api(odd, engine, path):
    engine.answers["alone"] = stream(b"data: [DONE]\n\n")
    asked = (
        {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9} if "messages" in path else {"input": "hi"}
    )
    answer = odd.post(path, {"model": "alone", "stream": True, **asked})
    assert answer.status_code == 502
    assert "says nothing" in answer.json()["error"]["message"]


def test_an_error_without_a_word_still_tells_its_status(odd, engine):
    engine.answers["alone"] = raw("500 Oh")
    told = odd.chat("alone")
    assert told.status_code == 500
    assert "answered 500: it gave no reason" in told.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
@pytest.mark.parametrize("broken", [b'data: {"id": "c", "choi', b"data: " + b"x" * 9_000_000], ids=["half", "endless"])
def test_the_error_after_half_an_event_stands_by_itself(odd, engine, path, broken):
    body = events(*HELLO[:3], done=b"") + broken
    engine.answers["alone"] = raw("200 OK", body, kind="text/event-stream")
    asked = {"input": "hi"} if "responses" in path else {"messages": [{"role": "user", "content": "hi"}]}
    answer = odd.post(path, {"model": "alone", "stream": True, "max_tokens": 9, **asked})
    assert answer.status_code == 200
    assert answer.text.endswith("\n\n")
    last = answer.text.rstrip().split("\n\n")[-1]
    said = json.loads(last[last.index("data: ") + 6 :])
    assert "error" in (said if "error" in said else said["response"])
    assert "[DONE]" not in answer.text
    assert "message_stop" not in answer.text
    assert "response.completed" not in answer.text


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_what_rails_held_back_comes_before_the_error_that_ends_the_stream(odd, engine, path):
    engine.answers["checked"] = stream(events(*HELLO[:3], ERROR, done=b""))
    asked = {"input": "hi"} if "responses" in path else {"messages": [{"role": "user", "content": "hi"}]}
    answer = odd.post(path, {"model": "checked", "stream": True, "max_tokens": 9, **asked})
    assert answer.status_code == 200
    assert 0 < answer.text.index("Hello") < answer.text.index("the provider is gone")


def test_rails_pass_an_event_on_that_was_written_in_several_lines(odd, engine):
    counted = json.dumps({"id": "c", "model": "m", "choices": [], "usage": USAGE}, indent=1).replace("\n", "\ndata: ")
    engine.answers["checked"] = stream(events(*HELLO, done=b"") + f"data: {counted}\n\ndata: [DONE]\n\n".encode())
    answer = odd.chat("checked", stream=True)
    data = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert json.loads(data[-2])["usage"] == USAGE


class InTurn:
    """Answers that are given one after the other, the last one from then on."""

    def __init__(self, *answers: bytes) -> None:
        self.left = list(answers)

    def partition(self, end: bytes) -> tuple[bytes, bytes, bytes]:
        return (self.left.pop(0) if len(self.left) > 1 else self.left[0]).partition(end)


def test_a_408_that_was_meant_for_nobody_costs_no_request(odd, engine):
    """Some servers say it before they close an idle connection, just when it is used again."""
    good = raw("200 OK", json.dumps(whole(usage=USAGE)).encode())
    closing = raw("408 Request Timeout", more="connection: close\r\n")
    for _ in range(5):
        engine.answers["alone"] = good
        assert odd.chat("alone").status_code == 200
        engine.answers["alone"], asked = InTurn(closing, good), len(engine.asked)
        assert odd.chat("alone").status_code == 200
        assert engine.asked[asked:] == ["alone", "alone"]


def test_a_retry_after_may_be_a_date(tmp_path, tools, engine):
    url = f"http://127.0.0.1:{engine.server_address[1]}/v1"
    more = '[routing.fallback.fast]\nto = ["dear/spare"]\n' + f'[engines.dear]\nkind = "openai"\nbase_url = "{url}"\n'
    later = formatdate(time.time() + 30, usegmt=True)
    engine.answers["limited"] = raw("429 Too Many Requests", b"{}", more=f"retry-after: {later}\r\n")
    with (
        open_workspace(tools.make_application(tmp_path / "lamps", url, more)) as workspace,
        tools.serving(workspace) as served,
    ):
        begun = len(engine.asked)
        for _ in range(3):
            assert served.chat("fast/limited").status_code == 200
    assert engine.asked[begun:].count("limited") == 1


@pytest.mark.parametrize(
    "bad",
    [raw("503 Busy", b"{}"), raw("200 OK", b"no JSON"), raw("500 Oh", b"{}")],
    ids=["503", "garbage", "500"],
)
def test_a_person_whose_requests_fail_everywhere_takes_the_engines_from_nobody_else(tmp_path, tools, engine, bad):
    """`eve` asks for something that no engine can answer, again and again."""
    url = f"http://127.0.0.1:{engine.server_address[1]}/v1"
    more = f'[routing.fallback.fast]\nto = ["dear/spare2"]\n[engines.dear]\nkind = "openai"\nbase_url = "{url}"\n'
    with (
        open_workspace(tools.make_application(tmp_path / "lamps", url, more)) as workspace,
        tools.serving(workspace) as served,
    ):
        begun = len(engine.asked)
        for _ in range(4):
            engine.answers["first"] = engine.answers["spare2"] = bad
            for _ in range(12):
                assert served.chat("fast/first", user="eve").status_code >= 500
            engine.says("first", whole("from the first", usage=USAGE))
            fine = served.chat("fast/first", user="bob")
            assert (fine.status_code, "from the first" in fine.text) == (200, True)
            assert "x-slipway-fallback" not in fine.headers
        if b"500" not in bad[:20]:  # who answers 500 is asked all the same where nobody else can be
            assert len(engine.asked) - begun < 4 + 2 * 20
