"""Signed thoughts and marks for the cache, from a client of Anthropic's API to an engine of it and back, as chat."""

import json

import pytest

from slipway.wire import anthropic, gemini, messages, thoughts
from slipway.wire.chat import Facts
from slipway.wire.chat_events import ChatReader, Thought
from slipway.wire.openai import read_stream
from slipway.wire.sse import EventReader

FACTS = Facts("chatcmpl-1", "claude", 1764000000)
MARK = {"type": "ephemeral"}
THINKING = {"type": "thinking", "thinking": "Paris it is.", "signature": "c2lnbmVk"}
SEALED = {"type": "redacted_thinking", "data": "c2VhbGVk"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}
REQUEST = {
    "model": "claude",
    "max_tokens": 2000,
    "system": [
        {"type": "text", "text": "Be brief."},
        {"type": "text", "text": "A long handbook.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Weather in Paris?", "cache_control": MARK}]},
        {"role": "assistant", "content": [THINKING, SEALED, {"type": "text", "text": "Let me look."}, USE]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "12", "cache_control": MARK}],
        },
    ],
    "tools": [{"name": "weather", "input_schema": {"type": "object"}, "cache_control": MARK}],
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "top_k": 5,
    "service_tier": "standard_only",
    "output_config": {"effort": "high"},
    "context_management": {"edits": []},
}
ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [THINKING, SEALED, {"type": "text", "text": "Let me look."}, USE],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 4,
        "cache_creation_input_tokens": 5,
        "cache_read_input_tokens": 3,
        "output_tokens": 9,
    },
}


def read(body: dict, **options) -> dict:
    return messages.read_request(json.dumps(body).encode(), **options)


def test_a_request_is_the_same_after_it_was_a_chat_completion():
    assert anthropic.write_request(read(REQUEST, everything=True)) == REQUEST


def test_everybody_else_gets_a_request_without_any_of_it():
    chat = read(REQUEST, everything=True)
    plain = thoughts.without(chat)
    assert plain == read(REQUEST)
    told = json.dumps(plain)
    for word in (
        "cache_control",
        "Paris it is",
        "c2lnbmVk",
        "c2VhbGVk",
        "budget_tokens",
        "effort",
        "context_management",
    ):
        assert word in json.dumps(chat)
        assert word not in told
    assert plain["messages"][0] == {"role": "system", "content": "Be brief.\n\nA long handbook."}
    assert plain["messages"][1] == {"role": "user", "content": "Weather in Paris?"}
    assert "cache_control" not in json.dumps(gemini.write_request(plain))


def test_a_turn_of_nothing_but_thoughts_is_left_out_for_others():
    body = REQUEST | {"messages": [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": [THINKING]}]}
    assert [one["role"] for one in read(body)["messages"]] == ["system", "user"]
    assert anthropic.write_request(read(body, everything=True))["messages"][1]["content"] == [THINKING]


def test_an_answer_is_the_same_after_it_was_a_chat_completion():
    chat = anthropic.read_answer(ANSWER, FACTS)
    assert chat["choices"][0]["message"]["reasoning_content"] == "Paris it is."
    assert chat["usage"]["prompt_tokens"] == 12
    assert messages.write_answer(chat, Facts("msg_1", "claude", 0)) == ANSWER


def stream_of(answer: dict) -> bytes:
    """An answer as the API streams it."""
    out = b""

    def write(kind: str, **fields: object) -> None:
        nonlocal out
        out += f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()

    write("message_start", message=answer | {"content": [], "stop_reason": None})
    for index, block in enumerate(answer["content"]):
        deltas: list[dict] = []
        begun = dict(block)
        match block["type"]:
            case "thinking":
                begun = {"type": "thinking", "thinking": "", "signature": ""}
                words = block["thinking"].split(" ")
                pieces = [words[0], *(f" {word}" for word in words[1:])]
                deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces if piece]
                deltas.append({"type": "signature_delta", "signature": block["signature"]})
            case "text":
                begun = {"type": "text", "text": ""}
                deltas = [{"type": "text_delta", "text": block["text"]}]
            case "tool_use":
                begun = block | {"input": {}}
                deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        write("content_block_start", index=index, content_block=begun)
        for delta in deltas:
            write("content_block_delta", index=index, delta=delta)
        write("content_block_stop", index=index)
    write("message_delta", delta={"stop_reason": answer["stop_reason"]}, usage={"output_tokens": 9})
    write("message_stop")
    return out


def assembled(raw: bytes) -> dict:
    """A message out of its stream, as a client puts it together; checks that blocks open and close in order."""
    message: dict = {}
    open_block: dict | None = None
    for data in EventReader().feed(raw):
        event = json.loads(data)
        match event["type"]:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                assert open_block is None
                assert event["index"] == len(message["content"])
                open_block = dict(event["content_block"])
                arguments = ""
            case "content_block_delta":
                delta = event["delta"]
                match delta["type"]:
                    case "thinking_delta":
                        open_block["thinking"] += delta["thinking"]
                    case "signature_delta":
                        open_block["signature"] += delta["signature"]
                    case "text_delta":
                        open_block["text"] += delta["text"]
                    case "input_json_delta":
                        arguments += delta["partial_json"]
                        open_block["input"] = json.loads(arguments)
            case "content_block_stop":
                message["content"].append(open_block)
                open_block = None
            case "message_delta":
                message |= event["delta"] | {"usage": event["usage"]}
    assert open_block is None
    return message


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(ANSWER["content"], id="thoughts, text and a call"),
        pytest.param(
            [THINKING, THINKING | {"thinking": "Again.", "signature": "c2Vjb25k"}], id="two thoughts in a row"
        ),
        pytest.param([THINKING | {"thinking": ""}, {"type": "text", "text": "Yes."}], id="a thought that is not shown"),
        pytest.param([{"type": "text", "text": "So."}, THINKING, USE], id="a thought after text"),
    ],
)
def test_a_stream_says_the_same_after_it_was_one_of_chat_completions(content, size):
    answer = ANSWER | {"content": content}
    raw = stream_of(answer)
    engine, client = (
        anthropic.StreamReader(FACTS, include_usage=True),
        messages.StreamWriter(Facts("msg_1", "claude", 0)),
    )
    chunks = b"".join(engine.feed(raw[at : at + size]) for at in range(0, len(raw), size)) + engine.close()
    assert read_stream(chunks).done
    back = b"".join(client.feed(chunks[at : at + size]) for at in range(0, len(chunks), size)) + client.close()
    assert assembled(back) == answer


def test_what_claims_to_be_thoughts_and_is_none_is_passed_over():
    for blocks in ("text", 7, None, [7, {"type": "text"}, {}], {"type": "thinking"}):
        assert thoughts.thoughts_of({"thinking_blocks": blocks}) == []
        chunk = {"choices": [{"index": 0, "delta": {"thinking_blocks": blocks}}]}
        events = list(ChatReader().feed(b"data: " + json.dumps(chunk).encode() + b"\n\n"))
        assert not any(isinstance(event, Thought) for event in events)
    assert thoughts.without({"messages": "hi", "tools": 7}) == {"messages": "hi", "tools": 7}
    odd = {"messages": [7, {"role": "user", "content": 7}, {"content": [7]}], "tools": [7]}
    assert thoughts.without(odd) == odd
