"""Engines and clients of other APIs than OpenAI's, over the real gateway, before an upstream that knows its rules."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import openai
import pytest

from slipway.domain.guardrail import Guardrails, RailSpec
from slipway.release.channels import promote
from slipway.workspace import open_workspace

DIALECTS = Path(__file__).parents[2] / "benchmarks" / "gateway" / "mock_dialects.py"
KINDS = ["anthropic", "gemini", "bedrock", "responses"]
HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello to the world"}]
WEATHER = [{"role": "user", "content": "Weather in Paris?"}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
]
TOKENS = (7, 5, 3)
"""What the upstream says it read, wrote and had cached."""


@pytest.fixture(scope="module")
def dialects():
    with runpy.run_path(str(DIALECTS))["MockDialects"]() as mock:
        yield mock


@pytest.fixture(scope="module")
def foreign(tmp_path_factory, mock, dialects, tools):
    """A gateway in front of every dialect: channel and engine are called as their API."""
    folder = tmp_path_factory.mktemp("dialects")
    tables = ""
    for kind in KINDS:
        lines = []
        for key, value in dialects.settings(kind).items():
            if key in ("api_key", "access_key", "secret_key"):
                (folder / key).write_text(value)
                value = f"file:{folder / key}"
            lines.append(f'{key} = "{value}"')
        tables += f'[engines.{kind}]\nkind = "{kind}"\n' + "\n".join(lines) + "\n"
    folder = tools.make_application(folder / "lamps", mock.url, tables)
    with open_workspace(folder) as workspace:
        for kind in KINDS:
            promote(workspace, tools.plain_release(workspace, engine=kind, model="m/1"), kind, force=True)
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
        promote(workspace, tools.documents_release(workspace), force=True)
        with tools.serving(workspace) as served:
            yield served


@pytest.mark.parametrize("kind", KINDS)
def test_a_chat_completion_over_another_api(foreign, dialects, kind):
    answer = foreign.client.chat.completions.create(model=kind, messages=HELLO, max_tokens=50)
    assert answer.choices[0].message.content == "Say hello to the world"
    assert answer.choices[0].finish_reason == "stop"
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.prompt_tokens_details.cached_tokens) == TOKENS
    path, _, body = dialects.seen[-1]
    assert "Be brief." in json.dumps(body)
    if kind in ("gemini", "bedrock"):
        assert "m%2F1" in path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("include_usage", [True, False])
def test_a_stream_over_another_api(foreign, kind, include_usage):
    options = {"stream_options": {"include_usage": True}} if include_usage else {}
    raw = foreign.client.chat.completions.with_raw_response.create(model=kind, messages=HELLO, stream=True, **options)
    chunks = list(raw.parse())
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Say hello to the world"
    )
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert sum(bool(chunk.choices) for chunk in chunks) > 4
    assert (not chunks[-1].choices) is include_usage
    span = foreign.trace(raw.headers["x-slipway-trace"])[0]
    assert (span.input_tokens, span.output_tokens, span.cached_tokens) == TOKENS
    assert not span.usage_estimated
    assert span.finish == "stop"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_function_is_called_and_its_result_goes_back(foreign, kind, stream):
    client = foreign.client
    asked = {"model": kind, "tools": TOOLS}
    if stream:
        with client.chat.completions.stream(messages=WEATHER, **asked) as events:
            message = events.get_final_completion().choices[0].message
    else:
        message = client.chat.completions.create(messages=WEATHER, **asked).choices[0].message
    (call,) = message.tool_calls
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"celsius": 12}'}
    said = message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"})
    last = client.chat.completions.create(messages=[*WEATHER, said, result], **asked)
    assert "12" in last.choices[0].message.content


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_another_api_keeps_its_status_and_its_words(foreign, kind):
    with pytest.raises(openai.APIStatusError, match="Overloaded") as refused:
        foreign.client.chat.completions.create(model=f"{kind}/overloaded", messages=HELLO)
    assert refused.value.status_code == 529


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_of_another_api_that_breaks_off_is_an_error(foreign, kind):
    with pytest.raises(openai.APIError, match="in the middle"):
        list(foreign.client.chat.completions.create(model=f"{kind}/cut", messages=HELLO, stream=True))


def test_what_an_api_cannot_do_is_the_clients_error(foreign):
    with pytest.raises(openai.BadRequestError) as refused:
        foreign.client.chat.completions.create(model="anthropic", messages=HELLO, n=2)
    assert refused.value.param == "n"


def test_guardrails_hold_over_another_api(foreign, tools):
    release = tools.plain_release(
        foreign.workspace,
        engine="anthropic",
        model="guarded",
        guardrails=Guardrails(after=(RailSpec(name="personal_data", action="redact"),)),
    )
    promote(foreign.workspace, release, "guarded", force=True)
    said = [{"role": "user", "content": "write to anna@example.org"}]
    answer = None
    for _ in range(600):
        answer = foreign.chat("guarded", messages=said)
        if answer.status_code == 200:
            break
    assert "anna@example.org" not in answer.json()["choices"][0]["message"]["content"]


# Clients -------------------------------------------------------------------------------------------------------------

MODELS = ["anthropic", "gemini", "plain", "lamps"]


@pytest.fixture(scope="module")
def claude(foreign):
    anthropic = pytest.importorskip("anthropic", reason="the Anthropic client is not installed")
    return anthropic.Anthropic(base_url=foreign.url, api_key="none", max_retries=0)


def expected(model: str) -> str:
    if model == "lamps":
        return "Express shipping costs 12 euros [1]."
    return "word0 word1" if model == "plain" else "What does express shipping cost?"


SHIPPING: Any = [{"role": "user", "content": "What does express shipping cost?"}]


@pytest.mark.parametrize("model", MODELS)
def test_the_anthropic_client(claude, model):
    raw = claude.messages.with_raw_response.create(model=model, max_tokens=100, messages=SHIPPING, system="Be brief.")
    message = raw.parse()
    assert message.content[0].text.startswith(expected(model))
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens > 0
    # As the engine calls it, where nothing is translated on the way.
    assert message.model == ("m/1" if model == "anthropic" else model)
    assert raw.headers["x-slipway-release"]


@pytest.mark.parametrize("model", MODELS)
def test_the_anthropic_client_streams(claude, model):
    with claude.messages.stream(model=model, max_tokens=100, messages=SHIPPING) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert text.startswith(expected(model))
    assert message.content[0].text == text
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
def test_the_anthropic_client_calls_functions_of_another_engine(claude, stream):
    asked: Any = {
        "model": "gemini",
        "max_tokens": 100,
        "tools": [{"name": "weather", "input_schema": {"type": "object"}}],
    }
    turns: Any = [{"role": "user", "content": "Weather in Paris?"}]
    if stream:
        with claude.messages.stream(messages=turns, **asked) as events:
            message = events.get_final_message()
    else:
        message = claude.messages.create(messages=turns, **asked)
    assert message.stop_reason == "tool_use"
    (use,) = [block for block in message.content if block.type == "tool_use"]
    assert use.input == {"city": "Paris"}
    result: Any = {"type": "tool_result", "tool_use_id": use.id, "content": '{"celsius": 12}'}
    turns += [{"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
    assert "12" in claude.messages.create(messages=turns, **asked).content[0].text


def test_the_anthropic_client_understands_errors(claude):
    anthropic = pytest.importorskip("anthropic")
    with pytest.raises(anthropic.NotFoundError) as missing:
        claude.messages.create(model="lampz", max_tokens=1, messages=SHIPPING)
    assert missing.value.body["error"]["type"] == "not_found_error"
    assert "Did you mean 'lamps'" in missing.value.body["error"]["message"]
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        claude.messages.create(model="anthropic/overloaded", max_tokens=1, messages=SHIPPING)
    with (
        pytest.raises(anthropic.APIError, match="in the middle"),
        claude.messages.stream(
            model="anthropic/cut", max_tokens=9, messages=[{"role": "user", "content": "one two three four"}]
        ) as stream,
    ):
        stream.until_done()


def test_what_anthropic_clients_ask_of_anthropic_engines_goes_through_as_it_is(foreign, dialects, until):
    body = {
        "model": "anthropic",
        "max_tokens": 2000,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Say hello to the world"}]}],
        "metadata": {"user_id": "u9"},
        "a_new_field": 1,
    }
    answer = foreign.post("/v1/messages", body)
    assert dialects.seen[-1][2] == body | {"model": "m/1"}
    assert answer.json()["content"] == [{"type": "text", "text": "Say hello to the world"}]
    assert answer.json()["usage"] == {"input_tokens": 4, "cache_read_input_tokens": 3, "output_tokens": 5}
    streamed = foreign.post("/v1/messages", body | {"stream": True})
    assert streamed.text.count("event: content_block_delta") == 5
    assert streamed.text.endswith('data: {"type": "message_stop"}\n\n')
    for one in (answer, streamed):
        (span,) = foreign.trace(one.headers["x-slipway-trace"])
        assert (span.input_tokens, span.output_tokens, span.cached_tokens) == TOKENS
        assert span.subject == "u9"
        assert span.content["reply"] == "Say hello to the world"
        assert span.finish == "stop"
        assert not span.usage_estimated
    refused = foreign.post("/v1/messages", body | {"max_tokens": None})
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, "max_tokens: field required")


def test_errors_of_messages_have_the_shape_of_its_api(foreign):
    answer = foreign.post("/v1/messages", {"model": "plain", "messages": []})
    assert answer.status_code == 400
    body = answer.json()
    assert body["type"] == "error"
    assert body["error"]["type"] == "invalid_request_error"
    assert "max_tokens" in body["error"]["message"]
    assert body["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("stream", [False, True])
def test_responses_call_functions(foreign, stream):
    asked: Any = {
        "model": "anthropic",
        "tools": [{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}],
    }
    client = foreign.client
    question: Any = [{"role": "user", "content": "Weather in Paris?"}]
    if stream:
        with client.responses.stream(input=question, **asked) as events:
            response = events.get_final_response()
    else:
        response = client.responses.create(input=question, **asked)
    (call,) = response.output
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "weather", {"city": "Paris"})
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": '{"celsius": 12}'}
    again = client.responses.create(input=[*question, call.model_dump(exclude_none=True), result], **asked)
    assert "12" in again.output_text
    assert again.usage.input_tokens_details.cached_tokens == 3


def test_messages_leave_one_trace_with_their_words(foreign):
    body = {"model": "plain", "max_tokens": 5, "messages": SHIPPING, "metadata": {"user_id": "u7"}}
    answer = foreign.post("/v1/messages", body)
    (span,) = foreign.trace(answer.headers["x-slipway-trace"])
    assert span.subject == "u7"
    assert span.content["messages"] == [{"role": "user", "text": SHIPPING[0]["content"]}]
    assert span.content["reply"].startswith("word0")
    assert (span.input_tokens, span.output_tokens) == (120, 50)
