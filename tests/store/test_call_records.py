"""Records of calls: what the gateway writes of a request that was answered whole, and what becomes of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast, get_args

import msgspec
import pytest

from slipway.domain.ids import ReleaseId, SpanId, SubjectId
from slipway.domain.trace import Span
from slipway.store.arrivals import (
    LINE,
    PLAIN_LINE,
    PLAIN_LINE_COLUMNS,
    PLAIN_SPAN,
    PLAIN_SPAN_COLUMNS,
    SPAN,
    clean,
    lone_line,
    plain_rows,
    span_row,
)
from slipway.store.call_records import ASKED as ASKED_PLACE
from slipway.store.call_records import MARK, CallRecord, CallRow, encode_call, is_call, is_plain_call, read_call
from slipway.store.call_records import REPLY as REPLY_PLACE
from slipway.store.journal_spans import with_values
from slipway.store.store import Store
from slipway.tracing.intake import decode_record, take_in

MakeSpan = Callable[..., Span]
ASKED = b'[{"role":"system","content":"Be brief."},{"role":"user","content":[{"type":"text","text":"Hi"}]}]'
MESSAGES = [{"role": "system", "text": "Be brief."}, {"role": "user", "text": "Hi"}]
VARIANTS = [
    pytest.param({}, id="plain"),
    pytest.param({"parent": SpanId("ab" * 8)}, id="inside another"),
    pytest.param({"subject": SubjectId("anna"), "session": "s"}, id="of a person"),
    pytest.param({"verdicts": {"pii": "redact"}}, id="verdicts"),
    pytest.param({"content": {}}, id="without content"),
    pytest.param({"usage_estimated": True, "first_token_ns": 5}, id="a stream"),
    pytest.param({"release": None, "response_model": "", "cost_micros": 0}, id="past every release"),
]


def called(make: MakeSpan, **fields: Any) -> Span:
    """A call as the gateway would have recorded it before there were records of calls."""
    return make(
        **{
            "kind": "chat",
            "name": "chat m",
            "model": "m",
            "response_model": "m-1",
            "provider": "e",
            "project": "lamps",
            "release": ReleaseId("f" * 64),
            "channel": "c",
            "input_tokens": 7,
            "output_tokens": 5,
            "cached_tokens": 2,
            "reasoning_tokens": 1,
            "cost_micros": 33,
            "finish": "stop",
            "content": {"messages": MESSAGES, "reply": "Hello."},
        }
        | fields
    )


def record_of(span: Span, **changed: Any) -> bytes | bytearray:
    kept = bool(span.content)
    more = {"asked": ASKED if kept else b"", "reply": "Hello." if kept else ""} | changed
    names = CallRecord.__struct_fields__
    row = tuple(more[name] if name in more else getattr(span, name) for name in names)
    return encode_call(cast(CallRow, row))


def test_positions_are_those_of_the_fields() -> None:
    names = CallRecord.__struct_fields__
    assert (names[ASKED_PLACE], names[REPLY_PLACE]) == ("asked", "reply")
    assert len(names) == len(get_args(CallRow))


@pytest.mark.parametrize("length", [10, 20_000, 300_000])
def test_a_long_record_is_written_as_a_short_one(make_span: MakeSpan, length: int) -> None:
    asked = msgspec.json.encode([{"role": "user", "content": "x" * length}])
    payload = record_of(called(make_span), asked=asked)
    assert payload[:1] == MARK
    assert bytes(payload[1:]) == msgspec.msgpack.encode(msgspec.msgpack.decode(payload[1:]))
    for form in (bytes, bytearray, memoryview):
        (message,) = read_call(form(payload)).content["messages"]
        assert message["text"].startswith("x" * min(length, 256 * 1024))


@pytest.mark.parametrize("fields", VARIANTS)
def test_a_record_is_read_as_the_span_that_it_stands_for(make_span: MakeSpan, fields: dict[str, Any]) -> None:
    given = called(make_span, **fields)
    payload = record_of(given)
    read = read_call(payload)
    assert with_values(read) == given
    assert with_values(read, name="other") == replace(given, name="other")
    assert is_call(read)
    assert clean(read) is read
    assert decode_record(payload)[0] == [read]


def test_a_torn_record_is_told(make_span: MakeSpan) -> None:
    fields = msgspec.msgpack.decode(record_of(called(make_span))[1:])
    for torn in (fields[:5], [*fields[:4], "soon", *fields[5:]]):
        with pytest.raises(msgspec.DecodeError):
            decode_record(MARK + msgspec.msgpack.encode(torn))


NO_MESSAGES = [b"null", b'{"a": 1}', b'[{"role": "nobody"}]', b"[[[[", b'[{"role":"user","content":"\xff"}]']


@pytest.mark.parametrize("asked", NO_MESSAGES)
def test_messages_that_are_none_are_no_reason_to_lose_the_call(make_span: MakeSpan, asked: bytes) -> None:
    assert read_call(record_of(called(make_span), asked=asked)).content == {"messages": [], "reply": "Hello."}


def test_plain_calls_are_those_about_nobody(make_span: MakeSpan) -> None:
    assert is_plain_call(read_call(record_of(called(make_span))))
    assert not is_plain_call(called(make_span))
    for fields in ({"subject": SubjectId("a")}, {"session": "s"}, {"verdicts": {"a": "allow"}}, {"parent": "ab" * 8}):
        assert not is_plain_call(read_call(record_of(called(make_span, **fields))))


def test_rows_of_plain_calls_are_those_of_any_span(make_span: MakeSpan) -> None:
    read = read_call(record_of(called(make_span)))
    line, row = plain_rows(read, 9)
    whole = dict(zip(SPAN, span_row(read, 9), strict=True))
    assert dict(zip(PLAIN_SPAN_COLUMNS, row, strict=True)) | PLAIN_SPAN == whole
    expected = dict(zip(LINE, lone_line(read, span_row(read, 9)), strict=True))
    found = dict(zip(PLAIN_LINE_COLUMNS, line, strict=True)) | PLAIN_LINE
    assert {name: found[name] for name in LINE} == expected
    assert (found["id"], found["trace"], found["preview"]) == (9, bytes.fromhex(read.trace), None)


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_the_store_keeps_a_call_as_it_keeps_its_span(store: Store, make_span: MakeSpan, large: bool) -> None:
    fields: dict[str, Any] = {"project": store.project}
    if large:
        fields["content"] = {"messages": MESSAGES, "reply": "word " * 60_000}
    mine = [called(make_span, trace=number, **fields) for number in range(1, 6)]
    records = [read_call(record_of(span, reply=str(span.content["reply"]))) for span in mine]
    assert take_in(store, records) == 5
    assert take_in(store, records) == 0
    for span in mine:
        assert store.traces.get(span.trace).spans == (span,)
    page = store.traces.list()
    assert [row.preview for row in page.rows] == ["Hi"] * 5
    assert {row.cost_micros for row in page.rows} == {33}
    assert len(store.traces.list(text="brief").rows) == 5


def test_what_the_gateway_found_no_price_for_gets_none_later(store: Store, make_span: MakeSpan) -> None:
    """An engine may be called like a provider and be another one: the gateway knew its address."""
    named = {
        "provider": "openai",
        "model": "gpt-4o",
        "name": "chat gpt-4o",
        "response_model": "gpt-4o",
        "cost_micros": 0,
    }
    call = called(make_span, trace=1, project=store.project, **named)
    other = called(make_span, trace=2, project=store.project, **named)
    take_in(store, [read_call(record_of(call)), other])
    assert store.traces.get(call.trace).root.cost_micros == 0
    assert store.traces.get(other.trace).root.cost_micros > 0
