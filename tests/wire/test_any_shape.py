"""JSON of nearly the right shape: whoever sent it is told what is wrong, and nothing else ever happens."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slipway.domain.errors import RequestInvalid
from slipway.wire import anthropic, bedrock, gemini, generate_content, messages, openai, responses, responses_engine
from slipway.wire.chat import Facts
from slipway.wire.embeddings import read_embedding_request, read_embeddings
from slipway.wire.errors import UNREADABLE, error_status, error_text
from slipway.wire.event_stream import LONGEST_FRAME, FrameReader, write_frame
from slipway.wire.sse import LONGEST_EVENT, EventReader

ENGINES = {"anthropic": anthropic, "gemini": gemini, "bedrock": bedrock, "responses": responses_engine}
FACTS = Facts("chatcmpl-1", "m", 1764000000)
ODD = (None, True, -1, 2**70, 1e308, "", "x", "user", "{", [], [None], [1], ["x"], [{}], {}, {"a": 1}, {"type": "text"})
TOO_DEEP = "too deep"

CHAT: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Hi"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "ok"},
    ],
    "max_tokens": 5,
    "temperature": 1.5,
    "stop": ["a"],
    "stream": True,
    "stream_options": {"include_usage": True},
    "tools": [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {}}}}}
    ],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
    "user": "u",
    "output_config": {"format": {}},
}
MESSAGES: dict[str, Any] = {
    "model": "m",
    "max_tokens": 5,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Hi"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "x", "signature": "s"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text"}]}]},
    ],
    "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "tool", "name": "f"},
    "metadata": {"user_id": "u"},
    "output_config": {"format": {"type": "json_schema", "schema": {}}},
}
RESPONSES: dict[str, Any] = {
    "model": "m",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "x"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "x"}]},
        {"type": "reasoning", "summary": []},
    ],
    "instructions": "i",
    "tools": [{"type": "function", "name": "f", "parameters": {}}],
    "tool_choice": {"type": "function", "name": "f"},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
    "reasoning": {"effort": "low"},
}


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a JSON value, as keys and numbers; the whole is not one of them."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield (*place, key)
        yield from places(one, (*place, key))


def changed(shape: dict[str, Any], place: tuple[Any, ...], value: Any) -> bytes:
    """The JSON of the shape with another value at one place."""
    copied: Any = json.loads(json.dumps(shape))
    holder = copied
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    return json.dumps(copied).encode().replace(f'"{TOO_DEEP}"'.encode(), b'{"a":' * 900 + b"1" + b"}" * 900)


def one_change(shape: dict[str, Any]) -> st.SearchStrategy[bytes]:
    where = st.sampled_from(list(places(shape)))
    return st.builds(changed, st.just(shape), where, st.sampled_from((*ODD, TOO_DEEP)))


def write_all(chat: dict[str, Any]) -> None:
    """The request to every engine. One that is nested too deeply is told so by whoever sends it."""
    for engine in ENGINES.values():
        with suppress(RequestInvalid, RecursionError):
            msgspec.json.encode(engine.write_request(chat))


def read_responses(body: bytes) -> None:
    request, chat = responses.read_request(body)
    responses.ResponseShape(request, FACTS)
    write_all(chat)


def read_chat(body: bytes) -> None:
    chat = openai.read_chat(body)
    openai.read_messages(chat.messages)
    openai.read_decoding(chat)
    write_all(msgspec.json.decode(body))


def wrong(shape: dict[str, Any], *place: Any, value: Any) -> bytes:
    return changed(shape, place, value)


SCHEMA = ("response_format", "json_schema", "schema")


@settings(max_examples=150, deadline=None)
@given(one_change(CHAT))
@example(wrong(CHAT, *SCHEMA, value=1))
@example(wrong(CHAT, *SCHEMA, value=["x"]))
def test_chat_requests(body: bytes) -> None:
    with suppress(RequestInvalid):
        read_chat(body)


@settings(max_examples=100, deadline=None)
@given(one_change(MESSAGES))
def test_requests_of_anthropic_clients(body: bytes) -> None:
    with suppress(RequestInvalid):
        write_all(messages.read_request(body, everything=True))
    with suppress(RequestInvalid):
        messages.countable_in(body)


@settings(max_examples=100, deadline=None)
@given(one_change(RESPONSES))
@example(wrong(RESPONSES, "input", 2, "output", value=["x"]))
@example(wrong(RESPONSES, "text", "format", "schema", value=0.5))
def test_requests_of_responses_clients(body: bytes) -> None:
    with suppress(RequestInvalid):
        read_responses(body)


GENERATE: dict[str, Any] = {
    "model": "m",
    "contents": [
        {"role": "user", "parts": [{"text": "a"}, {"inlineData": {"mimeType": "image/png", "data": "AA"}}]},
        {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"a": 1}}}]},
        {"parts": [{"functionResponse": {"name": "f", "response": {"result": "x"}}}, {"fileData": {"fileUri": "x"}}]},
    ],
    "systemInstruction": {"parts": [{"text": "i"}]},
    "generationConfig": {"temperature": 0.5, "stopSequences": ["a"], "responseSchema": {"type": "OBJECT"}},
    "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT", "properties": {"a": {}}}}]}],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
}


@settings(max_examples=100, deadline=None)
@given(one_change(GENERATE))
def test_requests_of_gemini_clients(body: bytes) -> None:
    with suppress(RequestInvalid):
        write_all(generate_content.read_request(body, stream=True))


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("schema", [1, ["x"], "x", True])
def test_a_schema_that_is_no_object_is_refused_by_name(name: str, schema: object) -> None:
    if name == "responses":
        pytest.skip("passes the schema on as it is; the API behind it says what is wrong")
    chat = json.loads(wrong(CHAT, *SCHEMA, value=schema))
    with pytest.raises(RequestInvalid, match="'response_format' is wrong"):
        ENGINES[name].write_request(chat)


@pytest.mark.parametrize("piece", [b"<", b"<style ", b"<!--", b"<script>"])
def test_a_page_of_one_tag_is_read_in_time(piece: bytes) -> None:
    began = time.process_time()
    error_text(piece * 4000)
    assert time.process_time() - began < 0.1


EMBEDDINGS = {"model": "m", "input": ["a"], "encoding_format": "base64", "dimensions": 3}
VECTORS = {"data": [{"embedding": [1.0], "index": 0}, {"embedding": "AAAAAA==", "index": 1}]}


@settings(max_examples=60, deadline=None)
@given(one_change(EMBEDDINGS), one_change(VECTORS))
@example(b"{}", wrong(VECTORS, "data", 1, "embedding", value="null"))
def test_embeddings(request_: bytes, vectors: bytes) -> None:
    with suppress(RequestInvalid):
        read_embedding_request(request_)
    with suppress(ValueError, RecursionError):
        read_embeddings(vectors)


ERROR = {"error": {"message": "m", "type": "t", "code": "c", "status": 404}}


@settings(max_examples=60, deadline=None)
@given(one_change(ERROR) | st.binary(max_size=40))
@example(b"[" * 5000)
def test_whatever_an_error_says_it_has_a_text_and_a_status(body: bytes) -> None:
    assert isinstance(error_text(body), str)
    assert isinstance(messages.translate_error(body, status=500, request_id="r"), bytes)
    with suppress(ValueError, RecursionError):
        assert 400 <= error_status(msgspec.json.decode(body)) <= 599


COMPLETION = {
    "id": "c",
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"content": "Hi", "tool_calls": [{"id": "t", "function": {"name": "f", "arguments": "{}"}}]},
            "delta": {"content": "Hi", "reasoning_content": "t", "tool_calls": [{"index": 0, "function": {}}]},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}},
}


@settings(max_examples=100, deadline=None)
@given(one_change(COMPLETION))
def test_completions_and_chunks(body: bytes) -> None:
    """What is written down about an answer never depends on whether the engine keeps to its format."""
    openai.read_stream(b"data: %b\n\n" % body)
    messages.completion_in(body)
    for read in (openai.read_completion, openai.read_piece):
        with suppress(*UNREADABLE):
            read(body)


@given(st.lists(st.sampled_from([b"data:", b"data: ", b"\r", b"\n", b"\r\n", b"a", b":", b"\n\n"])), st.data())
def test_events_are_the_same_however_the_bytes_are_cut(bits: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(bits)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))

    def read(pieces: list[bytes]) -> list[bytes]:
        reader = EventReader()
        return [one for piece in pieces for one in reader.feed(piece)] + list(reader.close())

    pieces = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(pieces) == read([stream]) == read([stream[at : at + 1] for at in range(len(stream))])


def test_a_frame_in_many_pieces_is_read_in_time() -> None:
    reader, began = FrameReader(), time.process_time()
    frame = write_frame({":event-type": "chunk"}, bytes(LONGEST_FRAME // 2))
    read = [one for at in range(0, len(frame), 400) for one in reader.feed(frame[at : at + 400])]
    assert read == [({":event-type": "chunk"}, bytes(LONGEST_FRAME // 2))]
    assert time.process_time() - began < 2


def test_an_event_in_many_pieces_is_read_in_time() -> None:
    reader = EventReader()
    began = time.process_time()
    for _ in range(LONGEST_EVENT // 400):
        assert list(reader.feed(b"data: 0123456789" * 25)) == []
    assert time.process_time() - began < 2
