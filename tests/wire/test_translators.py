"""Translators against golden files: what other APIs send and want, written from their public references."""

import json
from pathlib import Path

import pytest

from slipway.domain.errors import RequestInvalid
from slipway.wire import anthropic, bedrock, gemini, generate_content, messages, responses, responses_engine
from slipway.wire.chat import Facts
from slipway.wire.event_stream import FrameReader, write_frame
from slipway.wire.openai import read_stream
from slipway.wire.sse import EventReader

GOLDEN = Path(__file__).parent / "golden"
ENGINES = {"anthropic": anthropic, "gemini": gemini, "bedrock": bedrock, "responses": responses_engine}
FACTS = Facts("chatcmpl-1", "claude", 1764000000)


def cases(part: str, *names: str) -> list:
    return [
        pytest.param(name, case, id=f"{name}: {case['case']}")
        for name in names or ENGINES
        for case in json.loads((GOLDEN / f"{name}.json").read_text())[part]
    ]


@pytest.mark.parametrize(("name", "case"), cases("requests"))
def test_requests_to_engines(name, case):
    assert ENGINES[name].write_request(case["chat"]) == case["native"]


@pytest.mark.parametrize(("name", "case"), cases("answers"))
def test_answers_of_engines(name, case):
    assert ENGINES[name].read_answer(case["native"], FACTS) == case["chat"]


def raw_stream(name: str, native) -> bytes:
    if name != "bedrock":
        return native.encode()
    frames = []
    for kind, payload in native:
        headers = {":message-type": "event", ":event-type": kind}
        if kind.startswith("!"):
            headers = {":message-type": "exception", ":exception-type": kind[1:]}
        frames.append(write_frame(headers, json.dumps(payload).encode()))
    return b"".join(frames)


@pytest.mark.parametrize(("name", "case"), cases("streams"))
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_streams_of_engines_in_pieces_of_any_size(name, case, size):
    raw = raw_stream(name, case["native"])
    reader = ENGINES[name].StreamReader(FACTS, include_usage=True)
    out = b"".join(reader.feed(raw[at : at + size]) for at in range(0, len(raw), size)) + reader.close()
    said = read_stream(out)
    if case["case"] == "an error in the middle":
        assert said.text == "Let"
        assert said.error == "Overloaded"
        assert not said.done
        assert said.finish is None
        return
    assert said.text == "Let me look."
    assert said.finish == "tool_calls"
    assert said.done
    assert (said.usage.input_tokens, said.usage.output_tokens) == (12, 15)
    chunks = [json.loads(data) for data in EventReader().feed(out) if data != b"[DONE]"]
    calls = [call for chunk in chunks for choice in chunk["choices"] for call in choice["delta"].get("tool_calls", ())]
    assert calls[0]["function"]["name"] == "weather"
    assert calls[0]["id"]
    arguments = "".join(call["function"]["arguments"] for call in calls)
    assert json.loads(arguments) == {"city": "Paris"}
    assert {call["index"] for call in calls} == {0}


@pytest.mark.parametrize(("name", "case"), cases("streams"))
def test_a_stream_that_is_cut_claims_no_end(name, case):
    raw = raw_stream(name, case["native"])
    reader = ENGINES[name].StreamReader(FACTS, include_usage=False)
    out = reader.feed(raw[: len(raw) // 3]) + reader.close()
    assert read_stream(out).finish is None
    assert b"[DONE]" not in out


@pytest.mark.parametrize(("name", "case"), cases("requests", "messages_client"))
def test_requests_of_anthropic_clients(name, case):
    assert messages.read_request(json.dumps(case["native"]).encode()) == case["chat"]


@pytest.mark.parametrize(("name", "case"), cases("requests", "responses_client"))
def test_requests_of_responses_clients(name, case):
    assert responses.read_request(json.dumps(case["native"]).encode())[1] == case["chat"]


@pytest.mark.parametrize(("name", "case"), cases("requests", "gemini_client"))
def test_requests_of_gemini_clients(name, case):
    assert generate_content.read_request(json.dumps(case["native"]).encode(), stream=False) == case["chat"]


NOT_GENERATED = [
    pytest.param({"contents": []}, "contents", id="nothing said"),
    pytest.param({"contents": [{"parts": [{"inlineData": {"data": ""}}]}]}, "contents", id="bytes of no type"),
    pytest.param({"contents": [{"parts": [{"executableCode": {}}]}]}, "contents", id="code that ran at Google"),
    pytest.param(
        {"contents": [{"parts": [{"functionResponse": {"name": "f", "response": {}}}]}]},
        "contents",
        id="a result that nobody asked for",
    ),
    pytest.param({"tools": [{"googleSearch": {}}]}, "tools", id="a search"),
    pytest.param({"generationConfig": {"candidateCount": 2}}, "candidateCount", id="two answers"),
    pytest.param({"generationConfig": {"responseModalities": ["IMAGE"]}}, "responseModalities", id="a picture"),
    pytest.param({"generationConfig": {"temperature": "x"}}, "generationConfig.temperature", id="a wrong type"),
    pytest.param({"cachedContent": "cachedContents/1"}, "cachedContent", id="what Google keeps"),
]


@pytest.mark.parametrize(("more", "param"), NOT_GENERATED)
def test_what_a_chat_cannot_say_for_gemini_clients_is_refused_by_name(more, param):
    native = {"model": "m", "contents": [{"parts": [{"text": "Hi"}]}]} | more
    with pytest.raises(RequestInvalid) as refused:
        generate_content.read_request(json.dumps(native).encode(), stream=False)
    assert refused.value.param == param


def test_what_gemini_says_reaches_its_clients_as_it_was():
    """There and back again, whole and streamed."""
    golden = json.loads((GOLDEN / "gemini.json").read_text())
    case = next(case for case in golden["answers"] if case["case"] == "a call that is signed")
    native, back = case["native"], generate_content.write_answer(case["chat"], FACTS)
    told, said = (one["candidates"][0] for one in (native, back))
    for ours, theirs in zip(said["content"]["parts"], told["content"]["parts"], strict=True):
        if "functionCall" in theirs:
            assert ours["functionCall"].items() >= theirs["functionCall"].items()
            assert ours["thoughtSignature"] == theirs["thoughtSignature"]
        else:
            assert ours == theirs
    assert said["finishReason"] == told["finishReason"]
    assert back["usageMetadata"].items() >= native["usageMetadata"].items()
    reader, writer = gemini.StreamReader(FACTS, include_usage=True), generate_content.StreamWriter(FACTS)
    signed = golden["streams"][0]["native"].replace('{"functionCall"', '{"thoughtSignature": "c2ln", "functionCall"')
    out = writer.feed(reader.feed(signed.encode()) + reader.close()) + writer.close()
    events = [json.loads(data) for data in EventReader().feed(out)]
    parts = [part for event in events for part in event["candidates"][0]["content"]["parts"]]
    assert "".join(part.get("text", "") for part in parts if not part.get("thought")) == "Let me look."
    (call,) = [part for part in parts if "functionCall" in part]
    assert (call["functionCall"]["args"], call["thoughtSignature"]) == ({"city": "Paris"}, "c2ln")
    assert events[-1]["candidates"][0]["finishReason"] == "STOP"
    assert events[-1]["usageMetadata"]["promptTokenCount"] == 12


@pytest.mark.parametrize("name", ["anthropic", "responses"])
def test_what_an_engine_says_reaches_a_client_of_the_same_api_unchanged(name):
    """There and back again: a whole answer through both translators of one API."""
    case = json.loads((GOLDEN / f"{name}.json").read_text())["answers"][1]
    native, chat = case["native"], case["chat"]
    if name == "anthropic":
        back = messages.write_answer(chat, FACTS)
        kinds = [block["type"] for block in back["content"]]
        assert kinds == ["thinking", "text", "tool_use"]
        assert back["content"][1:] == native["content"][1:]
        assert back["stop_reason"] == native["stop_reason"]
        assert back["usage"]["output_tokens"] == native["usage"]["output_tokens"]
    else:
        request, _ = responses.read_request(b'{"model": "m", "input": "hi"}')
        back = responses.write_answer(chat, responses.ResponseShape(request, FACTS), FACTS)
        call = {key: back["output"][0][key] for key in ("type", "call_id", "name", "arguments")}
        assert call == {key: native["output"][1][key] for key in call}
        assert back["status"] == "completed"


REFUSED = [
    pytest.param("anthropic", {"n": 2}, "n", id="two answers"),
    pytest.param("bedrock", {"response_format": {"type": "json_object"}}, "response_format", id="a form of the answer"),
    pytest.param("gemini", {"logprobs": True}, "logprobs", id="probabilities"),
    pytest.param("responses", {"stop": "END"}, "stop", id="a word to stop at"),
    pytest.param("anthropic", {"tools": [{"type": "web_search"}]}, "tools", id="a tool that is no function"),
    pytest.param(
        "bedrock",
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.eu/b.png"}}]}
            ]
        },
        "messages",
        id="an image that would have to be fetched",
    ),
    pytest.param(
        "gemini",
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        "messages",
        id="sound",
    ),
    *(
        pytest.param(
            name, {"messages": [{"role": "user", "content": [{"type": "file", "file": file}]}]}, "messages", id=id
        )
        for name, file, id in (
            ("bedrock", {"file_url": "https://a.eu/b.pdf"}, "a document that would have to be fetched"),
            ("bedrock", {"file_data": "data:application/zip;base64,UEs="}, "a document that is none"),
            ("anthropic", {"file_data": "data:text/plain;base64,/w=="}, "a text file that is no text"),
            ("anthropic", {"file_id": "file-1"}, "a file that OpenAI keeps"),
            ("gemini", {"file_id": "file-1"}, "a file that OpenAI keeps, for Gemini"),
            ("gemini", {"file_data": "JVBERi0="}, "a file that does not say what it is"),
        )
    ),
    pytest.param("anthropic", {"messages": "hello"}, "messages", id="messages that are none"),
    *(
        pytest.param(name, {field: 7}, field, id=f"a number as {field} for {name}")
        for name in ENGINES
        for field in ("tools", "stop")
    ),
    *(
        pytest.param(
            name,
            {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": 7}]},
            "messages",
            id=f"a number as calls for {name}",
        )
        for name in ENGINES
    ),
]


@pytest.mark.parametrize(("name", "more", "param"), REFUSED)
def test_what_an_api_cannot_do_is_refused_by_name(name, more, param):
    chat = {"model": "m", "messages": [{"role": "user", "content": "hi"}]} | more
    with pytest.raises(RequestInvalid) as refused:
        ENGINES[name].write_request(chat)
    assert refused.value.param == param


NOT_CHATS = [
    pytest.param({"max_tokens": 1, "messages": []}, "model", id="no model"),
    pytest.param({"model": "m", "messages": [{"role": "user", "content": "a"}]}, "max_tokens", id="no limit"),
    pytest.param({"model": "m", "max_tokens": 1, "messages": []}, "messages", id="no message"),
    pytest.param(
        {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [{"type": "video"}]}]},
        "messages",
        id="an unknown block",
    ),
    pytest.param(
        {
            "model": "m",
            "max_tokens": 1,
            "messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": 7}]}],
        },
        "tool_result",
        id="a number as the result of a tool",
    ),
    pytest.param(
        {
            "model": "m",
            "max_tokens": 1,
            "messages": [{"role": "user", "content": "a"}],
            "tools": [{"type": "web_search_20250305", "name": "web_search"}],
        },
        "tools",
        id="a tool of Anthropic's own",
    ),
]


@pytest.mark.parametrize(("request_", "param"), NOT_CHATS)
def test_wrong_requests_of_anthropic_clients(request_, param):
    with pytest.raises(RequestInvalid) as refused:
        messages.read_request(json.dumps(request_).encode())
    assert refused.value.param == param


KEPT_STATE = [
    pytest.param("previous_response_id", "resp_1", id="an earlier response"),
    pytest.param("conversation", {"id": "conv_1"}, id="a conversation"),
    pytest.param("background", True, id="an answer to be fetched later"),
    pytest.param("prompt", {"id": "pmpt_1"}, id="a template that is kept elsewhere"),
]


@pytest.mark.parametrize(("param", "value"), KEPT_STATE)
def test_kept_state_is_refused(param, value):
    with pytest.raises(RequestInvalid) as refused:
        responses.read_request(json.dumps({"model": "m", "input": "hi", param: value}).encode())
    assert refused.value.param == param


def test_a_damaged_frame_ends_the_stream():
    frame = write_frame({":event-type": "messageStart"}, b'{"role":"assistant"}')
    assert list(FrameReader().feed(frame)) == [({":event-type": "messageStart"}, b'{"role":"assistant"}')]
    for at in (5, 20, len(frame) - 1):
        broken = bytearray(frame)
        broken[at] ^= 1
        with pytest.raises(ValueError, match="damaged"):
            list(FrameReader().feed(bytes(broken)))
