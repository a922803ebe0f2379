"""OTLP: whatever instrumentation sends, in protobuf or JSON, becomes our spans; what cannot be used is counted."""

import gzip
import json
import zlib
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from slipway.domain.errors import OtlpRefused
from slipway.domain.ids import ReleaseId, SpanId, SubjectId, TraceId
from slipway.domain.trace import Span
from slipway.wire.otlp import decode_traces, encode_error, encode_response, encode_traces
from slipway.wire.otlp_raw import JSON, PROTOBUF

START = 1_780_000_000_000_000_000
TRACE, SPAN, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"


def any_value(value: Any) -> AnyValue:
    made = AnyValue()
    match value:
        case bool():
            made.bool_value = value
        case int():
            made.int_value = value
        case float():
            made.double_value = value
        case str():
            made.string_value = value
        case bytes():
            made.bytes_value = value
        case list():
            made.array_value.values.extend(any_value(one) for one in value)
        case dict():
            for key, inner in value.items():
                pair = made.kvlist_value.values.add()
                pair.key = key
                pair.value.CopyFrom(any_value(inner))
    return made


def protobuf(
    attributes: dict[str, Any], *, events: list[tuple[str, int, dict[str, Any]]] | None = None, **fields: Any
) -> bytes:
    """One span as an exporter would send it."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    for key, value in {"service.name": "shop", "deployment.environment.name": "staging"}.items():
        pair = resource_spans.resource.attributes.add()
        pair.key = key
        pair.value.CopyFrom(any_value(value))
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = "an.instrumentation"
    span = scope_spans.spans.add()
    span.trace_id = bytes.fromhex(fields.get("trace", TRACE))
    span.span_id = bytes.fromhex(fields.get("span", SPAN))
    span.parent_span_id = bytes.fromhex(fields.get("parent", ""))
    span.name = fields.get("name", "chat small")
    span.start_time_unix_nano = fields.get("start", START)
    span.end_time_unix_nano = fields.get("end", START + 2_000_000_000)
    span.status.code = fields.get("code", 0)
    span.status.message = fields.get("message", "")
    for key, value in attributes.items():
        pair = span.attributes.add()
        pair.key = key
        pair.value.CopyFrom(any_value(value))
    for name, at, told in events or []:
        event = span.events.add()
        event.name, event.time_unix_nano = name, at
        for key, value in told.items():
            pair = event.attributes.add()
            pair.key = key
            pair.value.CopyFrom(any_value(value))
    return request.SerializeToString()


def one(attributes: dict[str, Any], **fields: Any) -> Span:
    decoded = decode_traces(protobuf(attributes, **fields), PROTOBUF, project="shop")
    assert (decoded.rejected, decoded.message) == (0, "")
    (span,) = decoded.spans
    return span


def test_ids_times_and_names() -> None:
    span = one({}, parent=PARENT, code=1)
    assert (span.trace, span.span, span.parent, span.name) == (TRACE, SPAN, PARENT, "chat small")
    assert (span.start_ns, span.end_ns, span.seconds) == (START, START + 2_000_000_000, 2.0)
    assert (span.project, span.status, span.kind, span.environment) == ("shop", "ok", "other", "staging")
    assert span.content["resource"]["service.name"] == "shop"
    assert span.content["scope"] == "an.instrumentation"


DIALECTS = [
    pytest.param(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "small",
            "gen_ai.response.model": "small-2026",
            "gen_ai.usage.input_tokens": 12,
            "gen_ai.usage.output_tokens": 7,
            "gen_ai.usage.cache_read.input_tokens": 4,
            "gen_ai.usage.reasoning.output_tokens": 3,
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.response.time_to_first_chunk": 0.25,
            "gen_ai.conversation.id": "s1",
            "user.id": "anna",
            "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "Why?"}]}]),
            "gen_ai.output.messages": json.dumps(
                [{"role": "assistant", "parts": [{"type": "text", "content": "Because."}], "finish_reason": "stop"}]
            ),
        },
        [],
        id="gen_ai, newest",
    ),
    pytest.param(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "openai",
            "gen_ai.request.model": "small",
            "gen_ai.response.model": "small-2026",
            "gen_ai.usage.prompt_tokens": 12,
            "gen_ai.usage.completion_tokens": 7,
            "gen_ai.usage.cache_read_input_tokens": 4,
            "gen_ai.usage.reasoning_tokens": 3,
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.server.time_to_first_token": 0.25,
            "session.id": "s1",
            "enduser.id": "anna",
        },
        [
            ("gen_ai.user.message", START, {"content": "Why?"}),
            ("gen_ai.choice", START, {"message": '{"content": "Because.", "role": "assistant"}', "index": 0}),
        ],
        id="gen_ai up to 1.36, messages as events",
    ),
    pytest.param(
        {
            "traceloop.span.kind": "unknown",
            "llm.request.type": "chat",
            "gen_ai.system": "openai",
            "gen_ai.request.model": "small",
            "gen_ai.response.model": "small-2026",
            "gen_ai.usage.input_tokens": 12,
            "gen_ai.usage.output_tokens": 7,
            "gen_ai.usage.cache_read_input_tokens": 4,
            "gen_ai.usage.reasoning_tokens": 3,
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.response.time_to_first_chunk": 0.25,
            "traceloop.association.properties.session_id": "s1",
            "traceloop.association.properties.user_id": "anna",
            "gen_ai.prompt.0.role": "user",
            "gen_ai.prompt.0.content": "Why?",
            "gen_ai.completion.0.role": "assistant",
            "gen_ai.completion.0.content": "Because.",
        },
        [],
        id="Traceloop, flat and numbered",
    ),
    pytest.param(
        {
            "openinference.span.kind": "LLM",
            "llm.provider": "openai",
            "llm.request.model_name": "small",
            "llm.response.model_name": "small-2026",
            "llm.token_count.prompt": 12,
            "llm.token_count.completion": 7,
            "llm.token_count.prompt_details.cache_read": 4,
            "llm.token_count.completion_details.reasoning": 3,
            "llm.finish_reason": "stop",
            "session.id": "s1",
            "user.id": "anna",
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.content": "Why?",
            "llm.output_messages.0.message.role": "assistant",
            "llm.output_messages.0.message.contents.0.message_content.type": "text",
            "llm.output_messages.0.message.contents.0.message_content.text": "Because.",
            "input.value": '{"messages": [{"role": "user", "content": "Why?"}]}',
            "output.value": "Because.",
        },
        [("First Token Stream Event", START + 250_000_000, {})],
        id="OpenInference",
    ),
    pytest.param(
        {
            "langfuse.observation.type": "generation",
            "gen_ai.system": "openai",
            "langfuse.observation.model.name": "small",
            "gen_ai.response.model": "small-2026",
            "langfuse.observation.usage_details": '{"input": 12, "output": 7, "input_cached_tokens": 4}',
            "gen_ai.usage.reasoning_tokens": 3,
            "gen_ai.response.finish_reasons": '["stop"]',
            "langfuse.observation.completion_start_time": "2026-05-28T20:26:40.250000+00:00",
            "langfuse.session.id": "s1",
            "langfuse.user.id": "anna",
            "gen_ai.input.messages": '[{"role": "user", "content": "Why?"}]',
            "gen_ai.output.messages": '{"role": "assistant", "content": "Because."}',
        },
        [],
        id="Langfuse, numbers in JSON texts",
    ),
    pytest.param(
        {
            "ai.operationId": "ai.streamText.doStream",
            "ai.model.provider": "openai",
            "ai.model.id": "small",
            "ai.response.model": "small-2026",
            "ai.usage.promptTokens": 12,
            "ai.usage.completionTokens": 7,
            "ai.usage.cachedInputTokens": 4,
            "ai.usage.reasoningTokens": 3,
            "ai.response.finishReason": "stop",
            "ai.response.msToFirstChunk": 250.0,
            "session.id": "s1",
            "ai.telemetry.metadata.userId": "anna",
            "ai.prompt.messages": '[{"role": "user", "content": [{"type": "text", "text": "Why?"}]}]',
            "gen_ai.output.messages": '[{"role": "assistant", "content": "Because."}]',
        },
        [],
        id="Vercel AI SDK",
    ),
]


@pytest.mark.parametrize(("attributes", "events"), DIALECTS)
def test_every_dialect_says_the_same(attributes: dict[str, Any], events: list[tuple[str, int, dict[str, Any]]]) -> None:
    span = one(attributes, events=events)
    told = (span.kind, span.provider, span.model, span.response_model, span.finish, span.session, span.subject)
    assert told == ("chat", "openai", "small", "small-2026", "stop", "s1", "anna")
    assert (span.input_tokens, span.output_tokens, span.cached_tokens, span.reasoning_tokens) == (12, 7, 4, 3)
    assert span.first_token_ns == 250_000_000
    assert span.content["messages"] == [{"role": "user", "text": "Why?"}]
    assert span.content["output"] == [{"role": "assistant", "text": "Because."}]


KINDS = [
    pytest.param({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}, "tool", id="a tool"),
    pytest.param({"gen_ai.operation.name": "invoke_agent"}, "agent", id="an agent"),
    pytest.param({"gen_ai.operation.name": "embeddings"}, "embeddings", id="embeddings"),
    pytest.param({"openinference.span.kind": "RETRIEVER"}, "retrieval", id="a retriever"),
    pytest.param({"openinference.span.kind": "GUARDRAIL"}, "guard", id="a guardrail"),
    pytest.param({"openinference.span.kind": "RERANKER"}, "rerank", id="a reranker"),
    pytest.param({"traceloop.span.kind": "workflow"}, "chain", id="a workflow"),
    pytest.param({"mlflow.spanType": "CHAT_MODEL"}, "chat", id="MLflow"),
    pytest.param({"openinference.span.kind": "llm"}, "chat", id="lower case"),
    pytest.param({"gen_ai.system": "x", "gen_ai.request.model": "m"}, "chat", id="a call without a kind"),
    pytest.param({"http.method": "GET"}, "other", id="no model at all"),
]


@pytest.mark.parametrize(("attributes", "kind"), KINDS)
def test_kinds(attributes: dict[str, Any], kind: str) -> None:
    assert one(attributes).kind == kind


ODD_NUMBERING = [
    pytest.param("llm.input_messages.².message.content", id="a number that is none"),
    pytest.param("llm.input_messages.99999999.message.content", id="a very large number"),
    pytest.param("llm.input_messages.0", id="nothing after the number"),
    pytest.param("llm.input_messages." + "0." * 200 + "content", id="very deep"),
]


@pytest.mark.parametrize("name", ODD_NUMBERING)
def test_oddly_numbered_attributes_do_no_harm(name: str) -> None:
    good = {"llm.input_messages.1.message.role": "user", "llm.input_messages.1.message.content": "Why?"}
    messages = one({name: "odd", **good}).content["messages"]
    assert {"role": "user", "text": "Why?"} in messages


def test_tools_and_their_results() -> None:
    span = one(
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "search",
            "gen_ai.tool.call.arguments": '{"query": "lamps"}',
            "gen_ai.tool.call.result": "three lamps",
        }
    )
    assert span.content["tool"] == "search"
    assert span.content["arguments"] == {"query": "lamps"}
    assert span.content["result"] == "three lamps"


RETRIEVALS = [
    pytest.param(
        {
            "retrieval.documents.0.document.id": "a.md",
            "retrieval.documents.0.document.content": "Text A",
            "retrieval.documents.0.document.score": 0.5,
            "retrieval.documents.0.document.metadata": '{"page": 3}',
            "retrieval.documents.10.document.id": "k.md",
            "retrieval.documents.2.document.id": "c.md",
        },
        [
            {"document": "a.md", "text": "Text A", "score": 0.5, "metadata": {"page": 3}},
            {"document": "c.md"},
            {"document": "k.md"},
        ],
        id="OpenInference, in order of the numbers",
    ),
    pytest.param(
        {"gen_ai.retrieval.documents": '[{"id": "a.md", "content": "Text A", "score": 0.5}]'},
        [{"document": "a.md", "text": "Text A", "score": 0.5}],
        id="gen_ai",
    ),
]


@pytest.mark.parametrize(("attributes", "passages"), RETRIEVALS)
def test_documents_of_a_retrieval(attributes: dict[str, Any], passages: list[dict[str, Any]]) -> None:
    span = one({"openinference.span.kind": "RETRIEVER", "gen_ai.retrieval.query.text": "Why?", **attributes})
    assert span.content["passages"] == passages
    assert span.content["query"] == "Why?"
    assert not any("documents" in name for name in span.content["attributes"])


def test_raw_attributes_are_kept_and_messages_only_once() -> None:
    span = one(
        {
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.content": "Why?",
            "input.value": '{"messages": "Why?"}',
            "llm.invocation_parameters": '{"temperature": 0}',
            "own.list": [1, 2.5, True, "x", [b"\x01"]],
            "own.map": {"a": {"b": 1}},
        }
    )
    assert span.content["attributes"] == {
        "llm.invocation_parameters": '{"temperature": 0}',
        "own.list": [1, 2.5, True, "x", ["AQ=="]],
        "own.map": {"a": {"b": 1}},
    }
    assert json.dumps(span.content).count("Why?") == 1


def test_input_and_output_of_steps_that_are_no_calls() -> None:
    span = one({"openinference.span.kind": "CHAIN", "input.value": '{"question": "Why?"}', "output.value": "Because."})
    assert (span.content["input"], span.content["output"]) == ({"question": "Why?"}, "Because.")


def test_system_instructions_come_first_and_other_parts_are_kept() -> None:
    span = one(
        {
            "gen_ai.system_instructions": '[{"type": "text", "content": "Be short."}]',
            "gen_ai.input.messages": json.dumps(
                [
                    {"role": "user", "parts": [{"type": "text", "content": "Look"}, {"type": "blob", "data": "xx"}]},
                    {"role": "assistant", "parts": [{"type": "tool_call", "id": "1", "name": "see"}]},
                ]
            ),
        }
    )
    assert span.content["messages"] == [
        {"role": "system", "text": "Be short."},
        {"role": "user", "text": "Look", "parts": [{"type": "blob", "data": "xx"}]},
        {"role": "assistant", "text": "", "parts": [{"type": "tool_call", "id": "1", "name": "see"}]},
    ]


ERRORS = [
    pytest.param({"message": "timed out"}, [], "timed out", id="a status message"),
    pytest.param(
        {},
        [("exception", START, {"exception.type": "ValueError", "exception.message": "bad"})],
        "ValueError: bad",
        id="an exception event",
    ),
    pytest.param({"attributes": {"error.type": "429"}}, [], "429", id="an error type"),
]


@pytest.mark.parametrize(("fields", "events", "error"), ERRORS)
def test_errors(fields: dict[str, Any], events: list[Any], error: str) -> None:
    attributes = fields.pop("attributes", {})
    span = one(attributes, events=events, code=2, **fields)
    assert (span.status, span.error) == ("error", error)


def test_cost_release_channel_and_prompt() -> None:
    span = one(
        {
            "llm.cost.total": 0.0123,
            "slipway.release.id": "r1",
            "slipway.channel": "support",
            "langfuse.prompt.name": "answer",
            "langfuse.prompt.version": 3,
            "deployment.environment.name": "test",
        }
    )
    assert (span.cost_micros, span.release, span.channel, span.prompt, span.environment) == (
        12300,
        "r1",
        "support",
        "answer@3",
        "test",
    )


ODD_NUMBERS = [
    pytest.param("many", 0, id="a word"),
    pytest.param(-3, 0, id="negative"),
    pytest.param(float("nan"), 0, id="not a number"),
    pytest.param(float("inf"), 0, id="infinite"),
    pytest.param("17", 17, id="digits in a text"),
    pytest.param(17.0, 17, id="a float"),
    pytest.param(1e300, 2**53, id="more than any sum could hold"),
]


@pytest.mark.parametrize(("value", "tokens"), ODD_NUMBERS)
def test_odd_numbers(value: Any, tokens: int) -> None:
    span = one({"gen_ai.usage.input_tokens": value, "llm.cost.total": value})
    assert span.input_tokens == tokens


def as_json(**span: Any) -> bytes:
    told = {
        "traceId": TRACE.upper(),
        "spanId": SPAN,
        "parentSpanId": PARENT,
        "name": "chat small",
        "kind": 3,
        "startTimeUnixNano": str(START),
        "endTimeUnixNano": str(START + 1_000_000_000),
        "status": {"code": 2, "message": "no"},
        "attributes": [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
            {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "12"}},
            {"key": "gen_ai.usage.output_tokens", "value": {"intValue": 7}},
            {"key": "gen_ai.response.time_to_first_chunk", "value": {"doubleValue": 0.5}},
            {"key": "gen_ai.response.finish_reasons", "value": {"arrayValue": {"values": [{"stringValue": "length"}]}}},
            {"key": "own", "value": {"kvlistValue": {"values": [{"key": "a", "value": {"boolValue": True}}]}}},
        ],
        "events": [{"name": "exception", "timeUnixNano": str(START), "attributes": []}],
        **span,
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    return json.dumps(
        {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": "s"}, "spans": [told]}]}]}
    ).encode()


def test_json_is_read_like_protobuf() -> None:
    decoded = decode_traces(as_json(), "application/json; charset=utf-8", project="shop")
    (span,) = decoded.spans
    assert (span.trace, span.span, span.parent) == (TRACE, SPAN, PARENT)
    assert (span.kind, span.status, span.error, span.finish) == ("chat", "error", "no", "length")
    assert (span.input_tokens, span.output_tokens, span.first_token_ns) == (12, 7, 500_000_000)
    assert span.content["attributes"]["own"] == {"a": True}


UNUSABLE = [
    pytest.param({"traceId": "12"}, "is no trace id", id="a short trace id"),
    pytest.param({"traceId": "0" * 32}, "is no trace id", id="a trace id of zeros"),
    pytest.param({"spanId": "zz" * 8}, "is no span id", id="a span id that is not hexadecimal"),
    pytest.param({"startTimeUnixNano": "0"}, "has no start time", id="no start"),
    pytest.param({"startTimeUnixNano": "9" * 30}, "after the year 2100", id="a start that no clock shows"),
    pytest.param({"endTimeUnixNano": str(2**63)}, "after the year 2100", id="an end that no clock shows"),
    pytest.param({"startTimeUnixNano": "soon"}, "a span cannot be read", id="a start that is no number"),
    pytest.param(
        {"attributes": [{"key": "a", "value": {"intValue": "x"}}]},
        "a span cannot be read",
        id="an integer that is none",
    ),
]


@pytest.mark.parametrize(("wrong", "message"), UNUSABLE)
def test_a_span_that_cannot_be_used_is_counted_and_the_rest_is_taken(wrong: dict[str, Any], message: str) -> None:
    request = json.loads(as_json())
    spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"]
    spans.append({**spans[0], **wrong})
    decoded = decode_traces(json.dumps(request).encode(), JSON, project="shop")
    assert (len(decoded.spans), decoded.rejected) == (1, 1)
    assert message in decoded.message


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.system_instructions",
        "gen_ai.usage.input_tokens",
        "gen_ai.response.finish_reasons",
        "gen_ai.retrieval.documents",
        "langfuse.observation.usage_details",
        "langfuse.observation.completion_start_time",
        "llm.input_messages.0.message.contents.0.message_content",
        "retrieval.documents.0.document",
        "slipway.span",
    ]
)


@settings(max_examples=150, deadline=None)
@given(attributes=st.dictionaries(NAMES, PLAIN, max_size=4), as_text=st.booleans(), odd=PLAIN)
def test_values_of_any_type_break_nothing_else(attributes: dict[str, Any], as_text: bool, odd: Any) -> None:
    wanted = {key: json.dumps(value) if as_text else value for key, value in attributes.items()}
    request = json.loads(as_json())
    spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"]
    told = [{"key": key, "value": _json_any(value)} for key, value in wanted.items()]
    spans.append({**spans[0], "attributes": told, "events": [{"name": "gen_ai.choice", "attributes": told}]})
    spans += [{**spans[0], "attributes": odd}, {**spans[0], "status": odd}, {**spans[0], "events": odd}, odd]
    decoded = decode_traces(json.dumps(request).encode(), JSON, project="shop")
    assert decoded.spans[0].input_tokens == 12
    assert 1 <= len(decoded.spans) + decoded.rejected <= 6


def _json_any(value: Any) -> dict[str, Any]:
    match value:
        case None:
            return {}
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": str(value)}
        case str():
            return {"stringValue": value}
        case list():
            return {"arrayValue": {"values": [_json_any(one) for one in value]}}
        case _:
            return {"kvlistValue": {"values": [{"key": key, "value": _json_any(one)} for key, one in value.items()]}}


def test_a_parent_that_is_none_makes_a_root() -> None:
    decoded = decode_traces(as_json(parentSpanId="0" * 16), JSON, project="shop")
    assert decoded.spans[0].parent is None


ENCODINGS = [
    pytest.param("", lambda body: body, id="plain"),
    pytest.param("identity", lambda body: body, id="identity"),
    pytest.param("gzip", gzip.compress, id="gzip"),
    pytest.param("gzip", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:]), id="gzip of two members"),
    pytest.param("deflate", zlib.compress, id="deflate"),
    pytest.param("deflate", lambda body: zlib.compress(body)[2:-4], id="deflate without a header"),
    pytest.param("zstd", lambda body: zstandard.compress(body), id="zstd"),
]


@pytest.mark.parametrize(("encoding", "compress"), ENCODINGS)
def test_compressed_bodies(encoding: str, compress: Any) -> None:
    body = compress(protobuf({"gen_ai.operation.name": "chat"}))
    assert len(decode_traces(body, PROTOBUF, encoding, project="shop").spans) == 1


LARGE = 1 << 20
REFUSED = [
    pytest.param(b"", "text/plain", "", 415, "content type is 'text/plain'", id="another content type"),
    pytest.param(b"x", PROTOBUF, "br", 415, "encoding 'br' is not known", id="another encoding"),
    pytest.param(b"\xff\xff\xff", PROTOBUF, "", 400, "no OTLP protobuf", id="broken protobuf"),
    pytest.param(protobuf({"a": "b"})[:-3], PROTOBUF, "", 400, "no OTLP protobuf", id="truncated protobuf"),
    pytest.param(b"{", JSON, "", 400, "no JSON", id="broken JSON"),
    pytest.param(b"[]", JSON, "", 400, "no JSON object", id="a JSON list"),
    pytest.param(b"[" * 100_000, JSON, "", 400, "no JSON", id="deeply nested JSON"),
    pytest.param(b"\x80abc", JSON, "", 400, "no JSON", id="no UTF-8"),
    pytest.param(b"nonsense", PROTOBUF, "gzip", 400, "cannot be decompressed", id="no gzip"),
    pytest.param(gzip.compress(b"x" * 999)[:-9], PROTOBUF, "gzip", 400, "cut off", id="half a gzip"),
    pytest.param(b"nonsense", PROTOBUF, "zstd", 400, "no zstd", id="no zstd"),
    pytest.param(gzip.compress(bytes(LARGE + 1)), PROTOBUF, "gzip", 413, "larger than 1 MiB", id="a gzip bomb"),
    pytest.param(gzip.compress(bytes(LARGE)) * 9, PROTOBUF, "gzip", 413, "larger than 1 MiB", id="a bomb of members"),
    pytest.param(zlib.compress(bytes(LARGE * 9)), PROTOBUF, "deflate", 413, "larger than 1 MiB", id="a deflate bomb"),
    pytest.param(zstandard.compress(bytes(LARGE * 9)), PROTOBUF, "zstd", 413, "larger than 1 MiB", id="a zstd bomb"),
    pytest.param(bytes(LARGE + 1), JSON, "", 413, "larger than 1 MiB", id="simply too large"),
]


@pytest.mark.parametrize(("body", "content_type", "encoding", "status", "reason"), REFUSED)
def test_bodies_that_are_refused(body: bytes, content_type: str, encoding: str, status: int, reason: str) -> None:
    with pytest.raises(OtlpRefused, match=reason) as caught:
        decode_traces(body, content_type, encoding, project="shop", largest=LARGE)
    assert caught.value.http_status == status


def test_values_that_are_nested_too_deeply_are_cut() -> None:
    deep: Any = "end"
    for _ in range(40):
        deep = [deep]
    assert "…" in json.dumps(one({"deep": deep}).content, ensure_ascii=False)


def test_the_answer_comes_in_kind() -> None:
    assert encode_response("application/json", 0, "") == (JSON, b"{}")
    kind, body = encode_response("application/json; charset=utf-8", 3, "no ids")
    assert json.loads(body) == {"partialSuccess": {"rejectedSpans": "3", "errorMessage": "no ids"}}
    kind, body = encode_response(PROTOBUF, 3, "no ids")
    answer = ExportTraceServiceResponse.FromString(body)
    assert kind == PROTOBUF
    assert (answer.partial_success.rejected_spans, answer.partial_success.error_message) == (3, "no ids")
    assert encode_response(PROTOBUF, 0, "") == (PROTOBUF, b"")


def test_errors_come_in_kind() -> None:
    assert json.loads(encode_error(JSON, 3, "no")[1]) == {"code": 3, "message": "no"}
    kind, body = encode_error(PROTOBUF, 300, "é" * 100)
    assert kind == PROTOBUF
    # A google.rpc.Status has code in field 1 and message in field 2; any message with these fields reads it.
    from opentelemetry.proto.trace.v1.trace_pb2 import Status

    assert body.startswith(b"\x08\xac\x02\x12\xc8\x01")
    assert Status.FromString(body).message == "é" * 100


def test_our_own_export_reads_back_whole() -> None:
    span = Span(
        trace=TraceId(TRACE),
        span=SpanId(SPAN),
        parent=None,
        name="answer",
        kind="request",
        start_ns=START,
        end_ns=START + 5,
        status="abstained",
        subject=SubjectId("anna"),
        session="s",
        release=ReleaseId("r1"),
        channel="support",
        prompt="answer@2",
        index="documents@1",
        input_tokens=3,
        cost_micros=7,
        first_token_ns=2,
        verdicts={"pii": "redact"},
        content={"question": "Why?", "passages": [{"document": "a.md", "text": "Because."}]},
    )
    body = encode_traces([span], service="shop")
    decoded = decode_traces(body, JSON, project="default")
    assert decoded.spans == [span]
    attributes = json.loads(body)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["attributes"]
    assert {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "3"}} in attributes


def test_a_forged_export_is_read_like_any_other_span() -> None:
    for forged in ("no json", '{"kind": "unheard of"}', '{"input_tokens": "x"}'):
        span = one({"slipway.span": forged, "gen_ai.operation.name": "chat"})
        assert span.kind == "chat"


def test_the_otel_sdk_is_understood_unmodified() -> None:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("outer") as outer, tracer.start_as_current_span("chat small") as inner:
        inner.set_attribute("gen_ai.operation.name", "chat")
        inner.set_attribute("gen_ai.request.model", "small")
        inner.set_attribute("gen_ai.response.finish_reasons", ("stop",))
        outer.set_attribute("session.id", "s1")
    body = encode_spans(exporter.get_finished_spans()).SerializeToString()
    decoded = decode_traces(gzip.compress(body), PROTOBUF, "gzip", project="shop")
    spans = {span.name: span for span in decoded.spans}
    assert spans["chat small"].parent == spans["outer"].span
    assert spans["chat small"].trace == f"{outer.get_span_context().trace_id:032x}"
    assert (spans["chat small"].kind, spans["chat small"].finish, spans["outer"].session) == ("chat", "stop", "s1")
