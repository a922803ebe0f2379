"""The OpenAI shapes, read and written: what others really send, and what is refused."""

import json

import numpy
import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from slipway.domain.decoding import Decoding
from slipway.domain.errors import RequestInvalid
from slipway.domain.message import Message, Reply, Request, Usage
from slipway.wire.embeddings import read_embedding_request, read_embeddings, write_embedding_request, write_embeddings
from slipway.wire.errors import error_text, write_error
from slipway.wire.openai import (
    ChunkWriter,
    read_chat,
    read_decoding,
    read_fields,
    read_messages,
    read_piece,
    read_reply,
    write_chat,
    write_completion,
)

MESSAGES = [{"role": "user", "content": "hi"}]

WRONG_BODIES = [
    pytest.param(b"", None, "not JSON", id="an empty body"),
    pytest.param(b"{", None, "not JSON", id="half a body"),
    pytest.param(b"[]", None, "expected `object`", id="a list"),
    pytest.param(b'{"model": "a"}', "messages", "missing", id="no messages"),
    pytest.param({"messages": MESSAGES}, "model", "missing", id="no model"),
    pytest.param({"model": 7, "messages": MESSAGES}, "model", "expected `str`", id="a number as model"),
    pytest.param({"model": "a", "messages": "hi"}, "messages", "expected `array`", id="a text as messages"),
    pytest.param({"model": "a", "messages": []}, "messages", "empty", id="an empty list of messages"),
    pytest.param({"model": "a", "messages": [{"content": "hi"}]}, "messages[0]", "role", id="a message without role"),
    pytest.param(
        {"model": "a", "messages": [{"role": "boss", "content": "x"}]}, "messages[...].role", "boss", id="a wrong role"
    ),
    pytest.param(
        {"model": "a", "messages": [{"role": "user", "content": 7}]}, "messages[...].content", "int", id="a number"
    ),
    pytest.param({"model": "a", "messages": MESSAGES, "stream": "yes"}, "stream", "expected `bool", id="stream: yes"),
    pytest.param(
        {"model": "a", "messages": MESSAGES, "temperature": "hot"}, "temperature", "float", id="temperature: hot"
    ),
    pytest.param(b'{"model": "\xff", "messages": []}', None, "not JSON", id="bytes that are no text"),
    pytest.param(b"[" * 100_000, None, "", id="a tower of brackets"),
]


@pytest.mark.parametrize(("body", "param", "reason"), WRONG_BODIES)
def test_a_wrong_request_names_its_field(body, param, reason):
    with pytest.raises(RequestInvalid) as wrong:
        read_chat(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert wrong.value.http_status == 400
    assert reason.lower() in str(wrong.value).lower()
    if param is not None and "..." not in param:
        assert wrong.value.param is not None
        assert wrong.value.param.startswith(param.split("[")[0])


def test_parts_of_text_are_joined_and_the_developer_is_the_system():
    chat = read_chat(
        json.dumps(
            {
                "model": "a",
                "messages": [
                    {"role": "developer", "content": "Be brief."},
                    {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                    {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
                ],
                "unknown_field": {"deep": [1, 2]},
            }
        ).encode()
    )
    assert read_messages(chat.messages) == (
        Message(role="system", text="Be brief."),
        Message(role="user", text="ab"),
        Message(role="assistant", text=""),
    )


def test_an_image_is_refused_where_only_text_is_read():
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}
    chat = read_chat(json.dumps({"model": "a", "messages": [image]}).encode())
    with pytest.raises(RequestInvalid, match="image_url"):
        read_messages(chat.messages)


def test_what_the_client_left_open_stays_open():
    chat = read_chat(json.dumps({"model": "a", "messages": MESSAGES, "stop": "x", "max_completion_tokens": 9}).encode())
    assert read_decoding(chat) == Decoding(temperature=None, max_tokens=9, seed=None, stop=("x",))


def test_unread_fields_keep_every_byte():
    body = b'{"model":"a","messages":[ {"role" : "user"} ],"x":1.0e+2,"u":"\\u00e9"}'
    fields = read_fields(body)
    assert bytes(fields["messages"]) == b'[ {"role" : "user"} ]'
    assert bytes(fields["x"]) == b"1.0e+2"
    assert bytes(fields["u"]) == b'"\\u00e9"'


def test_what_an_engine_asks():
    request = Request(
        model="m", messages=(Message(role="user", text="hi"),), decoding=Decoding(max_tokens=5, stop=("end",))
    )
    asked = json.loads(write_chat(request, stream=True))
    assert asked == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.0,
        "max_tokens": 5,
        "seed": 0,
        "stop": ["end"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    odd = json.loads(
        write_chat(
            request,
            stream=True,
            max_tokens_as="max_completion_tokens",
            leave_out=("seed", "temperature", "stream_options"),
            extra={"reasoning_effort": "low"},
        )
    )
    assert odd.keys() == {"model", "messages", "max_completion_tokens", "stop", "stream", "reasoning_effort"}


REPLIES = [
    pytest.param(
        {
            "model": "m-1",
            "choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": 5,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 3},
                "completion_tokens_details": {"reasoning_tokens": 1},
            },
        },
        Reply(
            text="yes",
            model="m-1",
            usage=Usage(input_tokens=5, output_tokens=2, cached_tokens=3, reasoning_tokens=1),
        ),
        id="with every count",
    ),
    pytest.param(
        {"choices": [{"message": {"content": "yes"}, "finish_reason": None}], "usage": None},
        Reply(text="yes", model="m", usage=Usage(estimated=True)),
        id="without counts, marked as estimated",
    ),
    pytest.param(
        {"choices": [{"message": {"content": None, "refusal": "no"}, "finish_reason": "content_filter"}], "usage": {}},
        Reply(text="no", model="m", usage=Usage(estimated=True), finish="content_filter"),
        id="a refusal",
    ),
    pytest.param(
        {"choices": [{"message": {"content": None, "tool_calls": []}, "finish_reason": "tool_calls"}], "usage": {}},
        Reply(text="", model="m", usage=Usage(estimated=True), finish="tool_calls"),
        id="a call of tools",
    ),
    pytest.param(
        {"choices": [{"message": {"content": "yes"}, "finish_reason": "eos"}], "usage": {}},
        Reply(text="yes", model="m", usage=Usage(estimated=True)),
        id="a reason to finish that nobody knows",
    ),
]


@pytest.mark.parametrize(("body", "reply"), REPLIES)
def test_replies(body, reply):
    assert read_reply(json.dumps(body).encode(), model="m") == reply


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"<html>", "malformed", id="a web page"),
        pytest.param(b"{}", "no message", id="nothing in it"),
        pytest.param(b'{"choices": []}', "no message", id="no choice"),
        pytest.param(b'{"error": {"message": "out of memory"}}', "out of memory", id="an error with status 200"),
        pytest.param(b'{"choices": "yes"}', "Expected", id="wrong types"),
    ],
)
def test_replies_that_are_none(body, reason):
    with pytest.raises(ValueError, match=reason):
        read_reply(body, model="m")


@pytest.mark.parametrize(
    ("data", "piece"),
    [
        pytest.param(
            {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]},
            ("a", None, None, ""),
            id="a word",
        ),
        pytest.param(
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}, ("", "length", None, ""), id="the end"
        ),
        pytest.param(
            {"choices": None, "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
            ("", None, Usage(input_tokens=1, output_tokens=2), ""),
            id="choices null beside the usage, as vLLM does",
        ),
        pytest.param(
            {"choices": [], "usage": {"prompt_tokens": 1}}, ("", None, Usage(input_tokens=1), ""), id="no choices"
        ),
        pytest.param({"error": {"message": "boom"}}, ("", None, None, "boom"), id="an error"),
        pytest.param({"error": "boom"}, ("", None, None, "boom"), id="an error that is a text"),
        pytest.param({"choices": [{"index": 1, "delta": {"content": "b"}}]}, ("", None, None, ""), id="another choice"),
    ],
)
def test_pieces_of_a_stream(data, piece):
    assert tuple(read_piece(json.dumps(data).encode())) == piece


def test_what_clients_get_is_what_the_official_client_expects():
    usage = Usage(input_tokens=5, output_tokens=2, cached_tokens=1)
    more = {"slipway": {"release": "r"}}
    body = write_completion(id="c", model="m", created=1, text="yes", finish="stop", usage=usage, more=more)
    completion = ChatCompletion.model_validate_json(body, strict=True)
    assert completion.choices[0].message.content == "yes"
    assert completion.usage is not None
    assert completion.usage.total_tokens == 7
    assert completion.model_extra == more

    writer = ChunkWriter(id="c", model="m", created=1)
    events = [writer.text("a"), writer.text("b"), writer.finish("stop", more), writer.usage(usage)]
    chunks = [ChatCompletionChunk.model_validate_json(event.removeprefix(b"data: "), strict=True) for event in events]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:3]) == "ab"
    assert chunks[2].choices[0].finish_reason == "stop"
    assert chunks[3].choices == []


@pytest.mark.parametrize("as_base64", [True, False])
def test_embeddings_there_and_back(as_base64):
    vectors = numpy.array([[0.6, 0.8], [1.0, 0.0]], dtype=numpy.float32)
    body = write_embeddings(vectors, model="m", as_base64=as_base64, tokens=3)
    assert json.loads(body)["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert numpy.allclose(read_embeddings(body), vectors)
    if not as_base64:
        CreateEmbeddingResponse.model_validate_json(body)


def test_embeddings_come_back_in_the_order_of_the_texts():
    body = b'{"data": [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]}'
    assert read_embeddings(body) == [[1.0], [2.0]]


def test_an_embedding_request():
    assert json.loads(write_embedding_request("m", ["a"], dimensions=8))["dimensions"] == 8
    assert read_embedding_request(b'{"model": "m", "input": "a"}').input == "a"
    for wrong in (b'{"model": "m", "input": []}', b'{"model": "m", "input": [[1, 2]]}', b'{"model": "m"}'):
        with pytest.raises(RequestInvalid, match="input"):
            read_embedding_request(wrong)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(write_error("no", kind="k", code="c"), "no", id="our own"),
        pytest.param(b'{"error": "no"}', "no", id="a text"),
        pytest.param(b'{"message": "no"}', "no", id="a message at the top"),
        pytest.param(b'{"detail": [{"msg": "no"}]}', '[{"msg":"no"}]', id="FastAPI's list"),
        pytest.param(b"Bad Gateway\n", "Bad Gateway", id="a proxy's text"),
        pytest.param(b"", "it gave no reason", id="nothing"),
    ],
)
def test_the_message_of_an_error(body, text):
    assert error_text(body) == text
