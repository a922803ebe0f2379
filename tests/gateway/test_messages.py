"""What only Anthropic's API knows, on its way through guardrails, cache and fallbacks; and its counting of tokens."""

from __future__ import annotations

import runpy
import time
from contextlib import contextmanager
from typing import Any

import pytest

from slipway.domain.guardrail import Guardrails, RailSpec
from slipway.release.channels import promote
from slipway.release.parts import cut_plain_release
from slipway.workspace import open_workspace
from tests.gateway.test_dialects import DIALECTS
from tests.wire.test_thoughts import assembled

MARK = {"type": "ephemeral"}
ASKED: dict[str, Any] = {
    "max_tokens": 2000,
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "system": [{"type": "text", "text": "A long handbook.", "cache_control": MARK}],
    "messages": [{"role": "user", "content": "Say hello to the world"}],
}
RAILS = Guardrails(
    before=(RailSpec(name="personal_data", action="redact"),), after=(RailSpec(name="personal_data", action="redact"),)
)


@pytest.fixture(scope="module")
def dialects():
    module = runpy.run_path(str(DIALECTS))
    with module["MockDialects"]() as mock:
        mock.thoughts, mock.counted = module["THOUGHTS"], module["COUNTED"]
        yield mock


@contextmanager
def serve(folder, mock, dialects, tools, more: str = ""):
    (folder / "key").write_text("key")
    claude = f'kind = "anthropic"\nbase_url = "{dialects.url}/v1"\napi_key = "file:{folder / "key"}"\n'
    tables = f"[engines.claude]\n{claude}[engines.second]\n{claude}{more}"
    app = tools.make_application(folder / "lamps", mock.url, tables)
    with open_workspace(app) as workspace:
        for name, engine, model, rails in (
            ("bare", "claude", "thinks-1", Guardrails()),
            ("guarded", "claude", "thinks-guarded", RAILS),
            ("other", "fast", "ok", Guardrails()),
        ):
            release = tools.plain_release(workspace, engine=engine, model=model, guardrails=rails)
            promote(workspace, release, name, force=True)
        with tools.serving(workspace) as served:
            yield served


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, mock, dialects, tools):
    with serve(tmp_path_factory.mktemp("guarded"), mock, dialects, tools) as served:
        yield served


def told(answer, *, stream: bool) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return assembled(answer.content) if stream else answer.json()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_behind_guardrails_thoughts_come_back_signed_and_marks_reach_the_engine(guarded, dialects, stream):
    body = ASKED | {"model": "guarded", "stream": stream}
    body |= {"messages": [{"role": "user", "content": "Write to anna@example.org now"}]}
    answer = guarded.post("/v1/messages", body, headers={"anthropic-beta": "interleaved-thinking-2025-05-14"})
    message = told(answer, stream=stream)
    assert message["content"][:2] == dialects.thoughts
    assert "anna@example.org" not in message["content"][2]["text"]
    _, headers, asked = dialects.seen[-1]
    assert headers["anthropic-beta"] == "interleaved-thinking-2025-05-14"
    assert asked["thinking"] == ASKED["thinking"]
    assert asked["system"] == ASKED["system"]
    assert "anna@example.org" not in str(asked["messages"])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_behind_guardrails_a_model_that_thinks_calls_a_tool_and_gets_its_result(guarded, stream):
    body = ASKED | {"model": "guarded", "stream": stream}
    body |= {"tools": [{"name": "weather", "input_schema": {"type": "object"}, "cache_control": MARK}]}
    turns = [{"role": "user", "content": "Weather in Paris?"}]
    message = told(guarded.post("/v1/messages", body | {"messages": turns}), stream=stream)
    use = message["content"][-1]
    assert (use["type"], use["input"]) == ("tool_use", {"city": "Paris"})
    result = {"type": "tool_result", "tool_use_id": use["id"], "content": '{"celsius": 12}'}
    turns += [{"role": "assistant", "content": message["content"]}, {"role": "user", "content": [result]}]
    # The upstream refuses a turn whose thoughts are missing or changed.
    message = told(guarded.post("/v1/messages", body | {"messages": turns}), stream=stream)
    assert "12" in message["content"][-1]["text"]


def test_a_client_of_chat_completions_may_send_signed_thoughts_back(guarded, dialects):
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    more = {"tools": [tool], "thinking": ASKED["thinking"], "max_tokens": 2000}
    turns: list[Any] = [{"role": "user", "content": "Weather in Paris?"}]
    message = guarded.chat("bare", messages=turns, **more).json()["choices"][0]["message"]
    assert message["thinking_blocks"] == dialects.thoughts
    turns += [message, {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": '{"celsius": 12}'}]
    answer = guarded.chat("bare", messages=turns, **more)
    assert answer.status_code == 200, answer.text


def test_an_engine_of_another_api_gets_none_of_it(guarded, upstream):
    thoughts = {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": "s"}]}
    body = ASKED | {"model": "other", "messages": [*ASKED["messages"], thoughts, *ASKED["messages"]]}
    assert guarded.post("/v1/messages", body).status_code == 200
    (asked,) = upstream.state.requests
    assert asked["messages"][0] == {"role": "system", "content": "A long handbook."}
    assert not any(word in str(asked) for word in ("thinking", "cache_control", "Hm."))


def test_with_a_cache_thoughts_are_kept_and_given_again_whole_and_as_a_stream(tmp_path, mock, dialects, tools):
    with serve(tmp_path, mock, dialects, tools, "[cache]\nenabled = true\n") as served:
        for first, word in ((False, "whole"), (True, "stream")):
            body = ASKED | {"model": "bare", "messages": [{"role": "user", "content": f"Say {word}"}]}
            before = len(dialects.seen)
            for stream, hit in ((first, False), (not first, True), (first, True)):
                answer = served.post("/v1/messages", body | {"stream": stream})
                assert (answer.headers.get("x-slipway-cache") == "hit") is hit
                message = told(answer, stream=stream)
                assert message["content"] == [*dialects.thoughts, {"type": "text", "text": f"Say {word}"}]
            assert len(dialects.seen) == before + 1
            assert dialects.seen[-1][2]["system"] == ASKED["system"]


def test_a_fallback_to_the_same_api_gets_everything_and_one_to_another_nothing(
    tmp_path, mock, dialects, tools, upstream
):
    routing = '[routing.fallback.claude]\nto = ["second/thinks-2"]\n[routing.fallback.second]\nto = ["fast/ok"]\n'
    with serve(tmp_path, mock, dialects, tools, routing) as served:
        same = served.post("/v1/messages", ASKED | {"model": "claude/overloaded"})
        assert same.headers["x-slipway-fallback"] == "second/thinks-2"
        assert same.json()["content"][:2] == dialects.thoughts
        assert dialects.seen[-1][2]["system"] == ASKED["system"]
        other = served.post("/v1/messages", ASKED | {"model": "second/overloaded"})
        assert other.headers["x-slipway-fallback"] == "fast/ok"
        (asked,) = upstream.state.requests
        assert asked["messages"][0] == {"role": "system", "content": "A long handbook."}
        assert "thinking" not in asked


# Counting ------------------------------------------------------------------------------------------------------------

COUNT = "/v1/messages/count_tokens"
PLAIN = {"messages": [{"role": "user", "content": "Hello there, how are you?"}]}


def test_tokens_are_counted_by_an_engine_that_can(guarded, dialects):
    answer = guarded.post(COUNT, PLAIN | {"model": "bare"}, headers={"anthropic-beta": "b-1"})
    assert answer.json() == {"input_tokens": dialects.counted}
    path, headers, asked = dialects.seen[-1]
    assert path.endswith("/v1/messages/count_tokens")
    assert headers["anthropic-beta"] == "b-1"
    assert asked == PLAIN | {"model": "thinks-1"}


@pytest.mark.parametrize("model", ["other", "lamps", "guarded", "claude/uncounted"])
def test_else_they_are_estimated_and_said_to_be(guarded, dialects, tools, model):
    if model == "lamps":
        promote(guarded.workspace, tools.documents_release(guarded.workspace), force=True)
    before = len(dialects.seen)
    answer = None
    for _ in range(600):
        answer = guarded.post(COUNT, PLAIN | {"model": model})
        if answer.status_code == 200:
            break
    assert answer.json() == {"input_tokens": 7, "slipway": {"estimated": True}}
    # What a guardrail would take out does not reach the engine for being counted.
    assert len(dialects.seen) - before == (1 if model == "claude/uncounted" else 0)


def test_an_estimate_counts_everything_that_is_said(guarded):
    def count(**more: Any) -> int:
        return guarded.post(COUNT, {"model": "other", **PLAIN} | more).json()["input_tokens"]

    alone = count()
    assert count(system="Be brief.") == alone + 3
    assert count(system=[{"type": "text", "text": "Be brief.", "cache_control": MARK}]) == alone + 3
    assert count(tools=[{"name": "weather", "input_schema": {"type": "object"}}]) > alone
    image = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    use = {"type": "tool_use", "id": "t", "name": "weather", "input": {"city": "Paris"}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "twelve degrees"}]}
    for block, least in ((image, 1600), (use, 3), (result, 2)):
        assert count(messages=[*PLAIN["messages"], {"role": "user", "content": [block]}]) >= alone + least


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param({"model": "other"}, 400, id="no messages"),
        pytest.param({"model": "other", "messages": "hi"}, 400, id="a text as messages"),
        pytest.param({"messages": []}, 400, id="no model"),
        pytest.param({"model": "nobody", "messages": []}, 404, id="an unknown model"),
        pytest.param({"model": "bare", "messages": []}, 200, id="the engine's own word"),
    ],
)
def test_wrong_questions_for_a_count(guarded, body, status):
    answer = guarded.post(COUNT, body)
    assert answer.status_code == status, answer.text
    if status >= 400:
        assert answer.json()["type"] == "error"
        assert answer.json()["error"]["message"]


def test_the_anthropic_client_counts(guarded, dialects):
    anthropic = pytest.importorskip("anthropic", reason="the Anthropic client is not installed")
    client = anthropic.Anthropic(base_url=guarded.url, api_key="none", max_retries=0)
    assert client.messages.count_tokens(model="bare", **PLAIN).input_tokens == dialects.counted
    assert client.messages.count_tokens(model="other", **PLAIN).input_tokens == 7


def test_a_release_that_was_cut_without_guardrails_passes_as_it_is(tmp_path, mock, dialects, tools):
    """`slipway release cut --plain` gives even no guardrails a hash."""
    with serve(tmp_path, mock, dialects, tools) as served:
        release = cut_plain_release(served.workspace, engine="claude", model="m")
        answer = served.post("/v1/messages", ASKED | {"model": release.id[:12]})
        until = time.monotonic() + 10
        while answer.status_code == 404 and time.monotonic() < until:
            answer = served.post("/v1/messages", ASKED | {"model": release.id[:12]})
        assert answer.json()["id"] == "msg_1"
