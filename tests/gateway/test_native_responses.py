"""The Responses API between clients and engines that speak it: bytes, ids, what is kept, and what goes wrong."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from slipway.access.keys import create_key
from slipway.domain.access import Limits
from slipway.domain.guardrail import Guardrails, RailSpec
from slipway.release.channels import promote, shadow
from slipway.release.parts import cut_plain_release
from slipway.workspace import open_workspace

MOCK = Path(__file__).parents[2] / "benchmarks" / "gateway" / "mock_responses.py"
PATH = "/v1/responses"
USED = (20, 6, 8, 4)
"""What the upstream says of two words: read, wrote, cached, spent on thoughts."""
BOUND = re.compile(rb'("(?:resp|msg|rs|ws|fc|cmp)_[0-9a-f]{16}68af)[A-Za-z0-9_-]{40}(?=")')
"""An id as clients get it."""
OWN = re.compile(rb'"(?:resp|msg|rs|ws|fc|cmp)_[0-9a-f]{16}68af"')
"""One as the engine has it."""
WEATHER: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}


@pytest.fixture(scope="module")
def mocks():
    made = runpy.run_path(str(MOCK))["MockResponses"]
    with made() as one, made() as other:
        yield one, other


@pytest.fixture
def engine(mocks):
    """The engine of the channel `kept`."""
    for mock in mocks:
        mock.reset()
    return mocks[0]


@pytest.fixture
def second(engine, mocks):
    """An engine of kind openai that answers this API too."""
    return mocks[1]


def tables(folder: Path, mocks: Any) -> str:
    (folder / "key").write_text("key")
    key = f'api_key = "file:{folder / "key"}"\nfirst_byte_s = 2\nidle_s = 2\n'
    one, other = mocks
    return f"""
[engines.kept]
kind = "responses"
base_url = "{one.url}"
{key}
[engines.both]
kind = "openai"
base_url = "{other.url}"
responses = true
{key}
[engines.down]
kind = "responses"
base_url = "http://127.0.0.1:1/v1"
{key}
[prices."kept/m"]
input = 1000.0
output = 2000.0
cached_input = 100.0
[routing]
retry_share = 0.0
[routing.fallback.down]
to = ["kept/stood-in"]
[routing.fallback.kept]
to = ["fast/ok"]
rate_limit = ["both/m"]
content_filter = ["both/m"]
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory, mock, mocks, tools):
    """A gateway that asks for keys, in front of two engines of this API, one that is down, and one of chats."""
    folder = tmp_path_factory.mktemp("native")
    folder = tools.make_application(folder / "lamps", mock.url, tables(folder, mocks))
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace, engine="kept", model="m"), "kept", force=True)
        # As `slipway release cut --plain` makes one, with the hash of guardrails that are none.
        promote(workspace, cut_plain_release(workspace, engine="both", model="m"), "both", force=True)
        rails = Guardrails(after=(RailSpec(name="personal_data", action="redact"),))
        guarded = tools.plain_release(workspace, engine="kept", model="m2", guardrails=rails)
        promote(workspace, guarded, "guarded", force=True)
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
        with tools.serving(workspace, keys_required=True) as served:
            yield served


@pytest.fixture(scope="module")
def texts(kept):
    """The texts of two keys."""
    return [create_key(kept.workspace.store, name)[1] for name in ("ours", "theirs")]


@pytest.fixture
def ours(kept, texts, until):
    assert until(lambda: len(kept.gateway.snapshot.keys) >= 2)
    return openai.OpenAI(base_url=f"{kept.url}/v1", api_key=texts[0], max_retries=0)


@pytest.fixture
def theirs(kept, texts, ours):
    return openai.OpenAI(base_url=f"{kept.url}/v1", api_key=texts[1], max_retries=0)


def post(client: openai.OpenAI, body: Any, path: str = PATH, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    known = {"content-type": "application/json", "authorization": f"Bearer {client.api_key}"}
    url = str(client.base_url).removesuffix("/v1/")
    return httpx.post(url + path, content=content, headers=known | headers, timeout=30)


def ask(client: openai.OpenAI, method: str, path: str) -> httpx.Response:
    url = str(client.base_url).removesuffix("/v1/")
    return httpx.request(method, url + path, headers={"authorization": f"Bearer {client.api_key}"}, timeout=30)


def told(answer: httpx.Response) -> list[dict[str, Any]]:
    """The events of a stream."""
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def span_of(served: Any, answer: httpx.Response) -> Any:
    return served.trace(answer.headers["x-slipway-trace"])[0]


# Bytes ---------------------------------------------------------------------------------------------------------------

UNKNOWN = {
    "model": "kept",
    "input": "Say hello",
    "of_2027": {"deep": [1, 2.50, "\u00e9"]},
    "tools": [{"type": "web_search", "filters": {"allowed_domains": ["example.org"]}}, {"type": "of_2027"}],
    "include": ["reasoning.encrypted_content"],
    "reasoning": {"effort": "high"},
    "prompt_cache_key": "k",
}


@pytest.mark.parametrize("channel", ["kept", "both"], ids=["kind responses", "kind openai"])
def test_a_request_goes_as_it_is_but_for_the_model(ours, engine, second, channel):
    body = b'{"model": "%b",  "input":"Say \\u0068ello", "of_2027": {"deep": [1, 2.50]}}' % channel.encode()
    assert post(ours, body).status_code == 200
    (raw,) = (engine if channel == "kept" else second).raw
    assert raw == b'{"model":"m","input":"Say \\u0068ello","of_2027":{"deep": [1, 2.50]}}'


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("step", [0, 7, 1000], ids=["by events", "by seven bytes", "by a thousand"])
def test_an_answer_that_nobody_keeps_comes_back_byte_for_byte(ours, engine, stream, step):
    engine.step = step
    answer = post(ours, UNKNOWN | {"stream": stream, "store": False})
    assert answer.status_code == 200, answer.text
    assert answer.content == engine.sent[-1]
    assert b"something_new" in answer.content
    assert (b"response.something_of_2027" in answer.content) is stream
    assert b"gAAAAABsealed" in answer.content


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("step", [0, 7, 1000], ids=["by events", "by seven bytes", "by a thousand"])
def test_of_one_that_is_kept_only_ids_differ(ours, engine, stream, step):
    engine.step = step
    answer = post(ours, UNKNOWN | {"stream": stream})
    (theirs,) = engine.kept.responses
    mine = told(answer)[0]["response"]["id"] if stream else answer.json()["id"]
    assert mine.startswith(theirs)
    assert BOUND.sub(rb"\1", answer.content) == engine.sent[-1]
    assert not OWN.search(answer.content)


def test_hosted_tools_custom_tools_and_sealed_thoughts_are_passed_on(ours, engine):
    response = ours.responses.create(
        model="kept",
        input=[{"role": "user", "content": "weather?"}],
        tools=[
            {"type": "mcp", "server_label": "x", "server_url": "https://x.example"},
            {"type": "custom", "name": "sh"},
        ],
        include=["reasoning.encrypted_content"],
        reasoning={"effort": "low"},
        store=False,
    )
    assert [item.type for item in response.output] == ["reasoning", "mcp_call", "custom_tool_call"]
    assert response.output[0].encrypted_content == "gAAAAABsealed"
    again = ours.responses.create(model="kept", input=[item.model_dump() for item in response.output], store=False)
    assert again.status == "completed"
    assert engine.seen[-1][2]["input"][0]["encrypted_content"] == "gAAAAABsealed"


# The record ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_trace_has_texts_usage_and_cost(kept, ours, engine, stream):
    answer = post(ours, {"model": "kept", "input": "Say hello", "instructions": "Be brief.", "stream": stream})
    span = span_of(kept, answer)
    assert (span.input_tokens, span.output_tokens, span.cached_tokens, span.reasoning_tokens) == USED
    assert (span.name, span.kind, span.status, span.finish) == ("chat m", "chat", "ok", "stop")
    assert (span.channel, span.provider, span.response_model) == ("kept", "kept", "m")
    assert span.cost_micros == (12 * 1000 + 8 * 100 + 6 * 2000)
    assert not span.usage_estimated
    messages = [{"role": "system", "text": "Be brief."}, {"role": "user", "text": "Say hello"}]
    assert span.content == {"messages": messages, "reply": "Say hello"}
    assert (span.first_token_ns is not None) is stream


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_trace_has_the_calls_of_tools(kept, ours, engine, stream):
    turns = [
        {"role": "user", "content": [{"type": "input_text", "text": "The weather"}, {"type": "input_image"}]},
        {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "rain"},
        {"role": "user", "content": "weather again?"},
    ]
    tools = [{"type": "web_search"}, WEATHER]
    span = span_of(kept, post(ours, {"model": "kept", "input": turns, "tools": tools, "stream": stream}))
    assert span.finish == "tool_calls"
    search, call = span.content["tool_calls"]
    assert search["type"] == "web_search_call"
    assert "weather again?" in search["action"]
    assert call == {"type": "function_call", "name": "weather", "arguments": '{"city": "Paris"}'}
    assert [message["role"] for message in span.content["messages"]] == ["user", "assistant", "tool", "user"]
    assert span.content["messages"][0]["text"] == "The weather[input_image]"
    assert "weather" in span.content["messages"][1]["text"]
    assert span.content["messages"][2]["text"] == "rain"


def test_an_answer_that_is_cut_short_says_so(kept, ours, engine):
    answer = post(ours, {"model": "kept/cut_short", "input": "Say hello"})
    assert answer.json()["status"] == "incomplete"
    assert span_of(kept, answer).finish == "length"


def test_a_response_that_the_request_is_to_blame_for_is_passed_on(kept, ours, engine, upstream):
    answer = post(ours, {"model": "kept/prompted", "input": "Say hello"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (200, "invalid_prompt")
    span = span_of(kept, answer)
    assert (span.status, span.error) == ("error", "Not this.")
    assert not upstream.state.requests


def test_budgets_and_limits_count_it(kept, engine, until):
    limits = Limits(tokens_per_minute=10_000, monthly_budget_micros=60_000)
    key, text = create_key(kept.workspace.store, "poor", limits=limits, models=["kept"])
    assert until(lambda: key.hash in kept.gateway.snapshot.keys)
    client = openai.OpenAI(base_url=f"{kept.url}/v1", api_key=text, max_retries=0)
    body = {"model": "kept", "input": "Say hello", "max_output_tokens": 10}
    first = post(client, body)
    assert first.status_code == 200
    assert first.headers["x-ratelimit-limit-tokens"] == "10000"
    assert int(first.headers["x-ratelimit-remaining-tokens"]) < 10_000
    assert [post(client, body | {"stream": True}).status_code for _ in range(4)][-1] == 429
    assert post(client, {"model": "both", "input": "hi"}).status_code == 403
    dear = post(client, body | {"max_output_tokens": 1000})
    assert dear.status_code == 429
    assert "budget" in dear.json()["error"]["message"]


# Kept state ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["kept", "both"])
def test_a_conversation_goes_on_by_the_id_of_its_last_answer(ours, engine, channel):
    first = ours.responses.create(model=channel, input="one")
    second = ours.responses.create(model=channel, input="two", previous_response_id=first.id)
    with ours.responses.stream(model=channel, input="three", previous_response_id=second.id) as stream:
        third = stream.get_final_response()
    assert [first.output_text, second.output_text, third.output_text] == ["one", "two (turn 2)", "three (turn 3)"]
    assert (second.previous_response_id, third.previous_response_id) == (first.id, second.id)


def test_what_is_kept_is_read_listed_and_deleted(ours, engine):
    made = ours.responses.create(model="kept", input="hello there")
    again = ours.responses.create(model="kept", input="hello again", previous_response_id=made.id)
    read = ours.responses.retrieve(again.id)
    assert (read.id, read.output_text, read.previous_response_id) == (again.id, again.output_text, made.id)
    events = list(ours.responses.retrieve(made.id, stream=True, starting_after=3))
    assert [event.sequence_number for event in events] == list(range(4, 4 + len(events)))
    assert events[-1].response.id == made.id
    page = ours.responses.input_items.list(made.id, limit=5)
    (item,) = page.data
    assert item.content == "hello there"
    assert engine.seen[-1][0].endswith("/input_items?limit=5")
    assert not OWN.search(ask(ours, "GET", f"{PATH}/{made.id}/input_items").content)
    ours.responses.input_items.list(made.id, after=item.id)
    assert engine.seen[-1][0].endswith(f"after={engine.kept.inputs[next(iter(engine.kept.responses))][0]['id']}")
    ours.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError, match=made.id):
        ours.responses.retrieve(made.id)


def test_a_response_in_the_background_is_polled_and_cancelled(kept, ours, engine):
    raw = ours.responses.with_raw_response.create(model="kept", input="slow", background=True, max_output_tokens=70)
    queued = raw.parse()
    assert (queued.status, queued.usage) == ("queued", None)
    (span,) = kept.trace(raw.headers["x-slipway-trace"])
    # Nobody knows yet what it will have used: what was set aside is paid.
    assert (span.output_tokens, span.usage_estimated, span.content["answered"]) == (70, True, "queued")
    read = ours.responses.with_raw_response.retrieve(queued.id)
    assert read.parse().output_text == "slow"
    (span,) = kept.trace(read.headers["x-slipway-trace"])
    assert (span.content["reply"], span.content["usage"]["input"], span.cost_micros) == ("slow", 20, 0)
    assert ours.responses.cancel(queued.id).status == "cancelled"
    other = ours.responses.create(model="kept", input="quick")
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        ours.responses.cancel(other.id)


STRANGE = [
    pytest.param(lambda id, raw: id, id="an id of another key"),
    pytest.param(lambda id, raw: raw, id="the id as the engine has it"),
    pytest.param(lambda id, raw: id[:-1] + ("A" if id[-1] != "A" else "B"), id="an id with another end"),
    pytest.param(lambda id, raw: "x" + id, id="an id with another beginning"),
    pytest.param(lambda id, raw: "resp_nobody", id="any text"),
    pytest.param(lambda id, raw: raw + "\u00e9" * 40, id="an id with letters that none has"),
]


@pytest.mark.parametrize("changed", STRANGE)
def test_an_id_means_nothing_to_others(ours, theirs, engine, changed):
    made = ours.responses.create(model="kept", input="a secret")
    (raw,) = engine.kept.responses
    id, asked = changed(made.id, raw), len(engine.seen)
    client = theirs if id == made.id else ours
    answers = [ask(client, "GET", f"{PATH}/{id}"), ask(client, "GET", f"{PATH}/{id}/input_items")]
    answers += [ask(client, "POST", f"{PATH}/{id}/cancel"), ask(client, "DELETE", f"{PATH}/{id}")]
    assert [answer.status_code for answer in answers] == [404] * 4
    assert {answer.json()["error"]["code"] for answer in answers} == {"response_not_found"}
    for path in (PATH, f"{PATH}/compact", f"{PATH}/input_tokens"):
        answer = post(client, {"model": "kept", "input": "what was it?", "previous_response_id": id}, path)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, "previous_response_id")
        assert error["code"] == "previous_response_not_found"
    assert len(engine.seen) == asked
    assert ours.responses.retrieve(made.id).output_text == "a secret"


def test_items_are_referred_to_by_the_key_that_got_them(ours, theirs, engine):
    tools: Any = [{"type": "web_search"}]
    with ours.responses.stream(model="kept", input="a secret", tools=tools, reasoning={"effort": "low"}) as stream:
        events = list(stream)
    made = events[-1].response
    assert (
        len({event.item_id for event in events if hasattr(event, "item_id")} - {item.id for item in made.output}) == 0
    )
    again: Any = [{"type": "item_reference", "id": item.id} for item in made.output]
    turns = [*again, {"role": "user", "content": "go on"}]
    assert ours.responses.create(model="kept", input=turns).output_text == "go on"
    raw = [item["id"] for item in next(iter(engine.kept.responses.values()))["output"]]
    assert [item["id"] for item in engine.seen[-1][2]["input"][:-1]] == raw
    # Whole items say their ids too, which the engine knows by its own names.
    turns = [*(item.model_dump(exclude_none=True) for item in made.output), {"role": "user", "content": "and on"}]
    assert ours.responses.create(model="kept", input=turns).output_text == "and on"
    assert [item["id"] for item in engine.seen[-1][2]["input"][:-1]] == raw
    asked = len(engine.seen)
    for client, id in [(theirs, made.output[-1].id), (ours, raw[-1]), (theirs, raw[-1]), (ours, "msg_1")]:
        for reference in ({"type": "item_reference", "id": id}, {"id": id}):
            for path in (PATH, f"{PATH}/compact", f"{PATH}/input_tokens"):
                answer = post(client, {"model": "kept", "input": [reference]}, path)
                error = answer.json()["error"]
                assert (answer.status_code, error["code"], error["param"]) == (400, "item_not_found", "input")
    assert len(engine.seen) == asked


def test_an_id_is_the_same_for_a_rotated_key_and_every_worker(ours, texts, kept, engine, tools):
    made = ours.responses.create(model="kept", input="hello")
    with tools.serving(kept.workspace, keys_required=True, worker="7") as other:
        client = openai.OpenAI(base_url=f"{other.url}/v1", api_key=texts[0], max_retries=0)
        assert client.responses.retrieve(made.id).output_text == "hello"


def test_addresses_below_are_what_they_are(ours, engine):
    made = ours.responses.create(model="kept", input="hello")
    assert ask(ours, "PUT", f"{PATH}/{made.id}").status_code == 405
    assert ask(ours, "POST", f"{PATH}/{made.id}/input_items").headers["allow"] == "GET"
    assert ask(ours, "GET", f"{PATH}/{made.id}/output").json()["error"]["code"] == "unknown_path"
    assert ask(ours, "GET", f"{PATH}/{made.id}/input_items?after=%0d%0a").status_code == 200
    assert engine.seen[-1][0].endswith("?after=%0d%0a")


def test_tokens_are_counted_by_the_engine_or_estimated(ours, engine):
    assert ours.responses.input_tokens.count(model="kept", input="Hello there").input_tokens == 42
    engine.server.counts = False
    counted = ours.responses.input_tokens.count(model="kept", input="Hello there")
    assert counted.model_extra["slipway"] == {"estimated": True}
    assert counted.input_tokens < 10


def test_a_long_conversation_is_compacted(kept, ours, engine):
    made = ours.responses.create(model="kept", input="hello")
    raw = ours.responses.with_raw_response.compact(model="kept", previous_response_id=made.id)
    compacted = raw.parse()
    assert compacted.output[0].type == "compaction"
    assert engine.seen[-1][2]["previous_response_id"] == next(iter(engine.kept.responses))
    (span,) = kept.trace(raw.headers["x-slipway-trace"])
    assert span.input_tokens == 20
    with pytest.raises(openai.BadRequestError, match="compacts nothing"):
        ours.responses.compact(model="plain", input="hi")


# Who answers ---------------------------------------------------------------------------------------------------------


def test_a_stand_in_of_the_same_api_gets_it_as_it_is(ours, engine):
    body = b'{"model":"down/m","input":"Say \\u0068ello","tools":[{"type":"web_search"}],"of_2027":1}'
    answer = post(ours, body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-slipway-fallback"] == "kept/stood-in"
    assert engine.raw[-1] == body.replace(b"down/m", b"stood-in")
    # Its answer is kept where it was made: the conversation goes on there.
    body = {"model": "down/m", "input": "and again", "previous_response_id": answer.json()["id"]}
    again = post(ours, body)
    assert again.headers["x-slipway-fallback"] == "kept/stood-in"
    assert again.json()["output"][0]["content"][0]["text"] == "and again (turn 2)"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", ["overloaded", "faulty", "first_fails"])
def test_a_stand_in_of_another_api_is_asked_in_its_own(ours, engine, upstream, stream, model):
    if (model == "faulty") is stream:
        pytest.skip("this model goes wrong in the other way only")
    answer = post(ours, {"model": f"kept/{model}", "input": "Say hello", "stream": stream, "instructions": "Be brief."})
    expected = 529 if model == "first_fails" and not stream else 200
    assert answer.status_code in (200, expected), answer.text
    if model == "first_fails" and not stream:
        return
    assert answer.headers["x-slipway-fallback"] == "fast/ok"
    (asked,) = upstream.state.requests
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]
    response = told(answer)[-1]["response"] if stream else answer.json()
    assert response["status"] == "completed"
    assert response["output"][0]["content"][0]["text"].startswith("word0 word1")
    # Nobody keeps it.
    assert ask(ours, "GET", f"{PATH}/{response['id']}").status_code == 404


def test_what_an_engine_filters_another_one_may_answer(ours, engine, second):
    answer = post(ours, {"model": "kept/filtered", "input": "Say hello"})
    assert answer.headers["x-slipway-fallback"] == "both/m"
    assert answer.json()["status"] == "completed"


def test_where_a_chat_cannot_say_it_another_api_does_not_stand_in(ours, engine, upstream):
    body = {"model": "kept/overloaded", "input": "Say hello", "tools": [{"type": "web_search"}]}
    answer = post(ours, body)
    assert (answer.status_code, answer.json()["error"]["message"]) == (529, "Overloaded")
    assert not upstream.state.requests


def test_what_leans_on_an_earlier_answer_is_asked_of_nobody_else(ours, engine, upstream):
    made = ours.responses.create(model="kept", input="hello")
    body = {"model": "kept/overloaded", "input": "more", "previous_response_id": made.id}
    assert post(ours, body).status_code == 529
    assert not upstream.state.requests
    elsewhere = post(ours, {"model": "both", "input": "more", "previous_response_id": made.id})
    assert elsewhere.status_code == 400
    assert "kept by another engine" in elsewhere.json()["error"]["message"]


def test_a_channel_of_several_releases_goes_on_with_the_one_that_made_it(tmp_path, mock, mocks, engine, tools):
    folder = tools.make_application(tmp_path / "lamps", mock.url, tables(tmp_path, mocks))
    with open_workspace(folder) as workspace:
        first = tools.plain_release(workspace, engine="kept", model="m")
        other = tools.plain_release(workspace, engine="both", model="m")
        promote(workspace, first, "mixed", force=True)
        promote(workspace, other, "mixed", weight=0.5, force=True)
        with tools.serving(workspace) as served:
            makers = set()
            for number in range(12):
                made = served.post(PATH, {"model": "mixed", "input": "one", "user": f"u{number}"})
                body = {"model": "mixed", "input": "two", "previous_response_id": made.json()["id"]}
                for user in range(3):
                    again = served.post(PATH, body | {"user": f"other{user}"})
                    assert again.json()["output"][0]["content"][0]["text"] == "two (turn 2)"
                    assert again.headers["x-slipway-release"] == made.headers["x-slipway-release"]
                makers.add(made.headers["x-slipway-release"])
            assert makers == {first.id, other.id}


def test_a_shadow_gets_what_a_chat_can_say(tmp_path, mock, mocks, engine, upstream, tools, until):
    folder = tools.make_application(tmp_path / "lamps", mock.url, tables(tmp_path, mocks))
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace, engine="kept", model="m"), "kept", force=True)
        shadow(workspace, "kept", tools.plain_release(workspace, model="shade"), share=1.0)
        with tools.serving(workspace) as served:
            served.post(PATH, {"model": "kept", "input": "look it up", "tools": [{"type": "web_search"}]})
            served.post(PATH, {"model": "kept", "input": "Say hello", "stream": True})
            assert until(lambda: upstream.state.requests)
            (asked,) = upstream.state.requests
            assert (asked["model"], asked["messages"]) == ("shade", [{"role": "user", "content": "Say hello"}])


# What goes wrong ------------------------------------------------------------------------------------------------------


def test_a_stream_that_breaks_off_ends_with_a_response_that_failed(kept, ours, engine):
    answer = post(ours, {"model": "kept/broken", "input": "one two three four five", "stream": True})
    *before, last = told(answer)
    assert last["type"] == "response.failed"
    assert last["sequence_number"] == before[-1]["sequence_number"] + 1
    assert last["response"]["id"] == before[0]["response"]["id"]
    assert last["response"]["status"] == "failed"
    assert "kept" in last["response"]["error"]["message"]
    span = span_of(kept, answer)
    assert (span.status, span.usage_estimated) == ("error", True)
    assert span.output_tokens > 0
    with ours.responses.stream(model="kept/broken", input="one two three") as stream:
        events = list(stream)
    assert events[-1].type == "response.failed"


def test_a_response_that_fails_in_its_stream_is_passed_on(kept, ours, engine):
    answer = post(ours, {"model": "kept/fails", "input": "one two three", "stream": True})
    assert told(answer)[-1]["type"] == "response.failed"
    assert answer.text.count("response.failed") == 2
    span = span_of(kept, answer)
    assert (span.status, span.error, span.input_tokens) == ("error", "The model fell over.", 20)


def test_when_a_client_leaves_the_engine_is_left_too(kept, ours, engine, until):
    with ours.responses.stream(model="kept/silent", input="one two three") as stream:
        next(iter(stream))
    assert until(lambda: engine.left, within_s=5)
    assert until(lambda: any(row.status == "cancelled" for row in kept.traces()), within_s=5)


REFUSED = [
    pytest.param({"previous_response_id": "resp_1"}, "previous_response_id", id="an earlier answer"),
    pytest.param({"background": True}, "background", id="the background"),
    pytest.param({"prompt": {"id": "pmpt_1"}}, "prompt", id="a prompt that OpenAI keeps"),
    pytest.param({"tools": [{"type": "web_search"}]}, "tools", id="a hosted tool"),
    pytest.param({"tools": [{"type": "custom", "name": "sh"}]}, "tools", id="a tool with a grammar of its own"),
    pytest.param({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input", id="a reference"),
    pytest.param({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "input", id="what is sealed"),
]


@pytest.mark.parametrize(("more", "param"), REFUSED)
def test_guardrails_refuse_by_name_what_they_cannot_read(ours, engine, more, param):
    answer = post(ours, {"model": "guarded", "input": "hi"} | more)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert not engine.seen


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_guardrails_read_what_the_engine_says(ours, engine, stream):
    answer = post(ours, {"model": "guarded", "input": "Write to anna@example.org now", "stream": stream})
    assert answer.status_code == 200
    assert "anna@example.org" not in answer.text
    # Nothing is kept where nobody could read it.
    assert engine.seen[-1][2]["store"] is False


def test_where_an_engine_may_know_more_it_is_told_how_to_say_so(ours, engine):
    answer = post(ours, {"model": "plain", "input": "hi", "tools": [{"type": "web_search"}]})
    assert answer.status_code == 400
    assert "responses = true" in answer.json()["error"]["message"]
    answer = post(ours, {"model": "guarded", "input": "hi", "tools": [{"type": "web_search"}]})
    assert "responses = true" not in answer.json()["error"]["message"]


def test_conversations_are_refused_since_they_would_be_open_to_all(ours, engine):
    answer = post(ours, {"model": "kept", "input": "hi", "conversation": "conv_1"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "conversation")
    assert not engine.seen


def test_errors_of_the_engine_name_ids_as_the_client_knows_them(ours, engine):
    made = ours.responses.create(model="kept", input="hello")
    (raw,) = engine.kept.responses
    del engine.kept.responses[raw]
    with pytest.raises(openai.BadRequestError) as wrong:
        ours.responses.create(model="kept", input="more", previous_response_id=made.id)
    assert wrong.value.code == "previous_response_not_found"
    assert made.id in str(wrong.value)


class Said(BaseModel):
    """A form."""

    said: str


def test_forms_by_a_schema_and_functions_in_streams(ours, engine):
    parsed = ours.responses.parse(model="kept", input="Say hello", text_format=Said)
    assert parsed.output_parsed == Said(said="Say hello")
    with ours.responses.stream(model="kept", input="weather?", tools=[WEATHER]) as stream:
        call = stream.get_final_response().output[0]
    assert (call.name, call.arguments) == ("weather", '{"city": "Paris"}')


# The Agents SDK ------------------------------------------------------------------------------------------------------

PYTHON = os.environ.get("SLIPWAY_CLIENTS_PYTHON", sys.executable)
"""An interpreter that has openai-agents, which is no part of the lock."""


def test_the_agents_sdk_with_its_default_model(kept, texts, ours, engine):
    if subprocess.run([PYTHON, "-c", "import agents"], capture_output=True, check=False).returncode:
        pytest.skip("openai-agents is not installed: name an interpreter that has it in SLIPWAY_CLIENTS_PYTHON")
    script = Path(__file__).parent / "clients" / "openai_agents.py"
    command = [PYTHON, str(script), f"{kept.url}/v1", texts[0], "kept"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {
        "turns": ["one", "two (turn 2)", "three (turn 3)"],
        "streamed": ["response.created", "response.completed"],
        "usage": [20, 7, 8],
        "function": [
            "12 celsius in Paris (turn 2)",
            ["ToolCallItem", "ToolCallOutputItem", "MessageOutputItem"],
        ],
        "handoff": "expert",
        "hosted": ["and once more", ["reasoning", "web_search_call", "message"], "gAAAAABsealed"],
        "all hosted": ["web_search_call", "code_interpreter_call", "mcp_call", "message"],
    }
