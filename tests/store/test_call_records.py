"""Records of calls: what the gateway writes of a request that was answered whole, and what becomes of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any, cast, get_args

import msgspec
import pytest

from slipway.domain.ids import ReleaseId, SpanId, SubjectId, TraceId
from slipway.domain.trace import Span, SpanEvent
from slipway.store.arrivals import LINE, SPAN, clean, count_lone, lone_line, span_row
from slipway.store.call_records import ASKED as ASKED_PLACE
from slipway.store.call_records import MARK, CallRecord, CallRow, encode_call, is_call, read_call, span_of
from slipway.store.call_records import REPLY as REPLY_PLACE
from slipway.store.databases.base import Constant
from slipway.store.journal_spans import with_values
from slipway.store.lone_calls import LoneCalls, read_calls
from slipway.store.rollups import Tally
from slipway.store.store import Store
from slipway.store.trace_pages import entry_of, texts_in
from slipway.store.trace_writer import there_sql
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


ALONE = [
    *VARIANTS,
    pytest.param({"model": "", "cost_micros": 2**62 - 1}, id="at the limit"),
]
OTHERS = [
    pytest.param({"subject": SubjectId("a\nb")}, id="two lines in a name of a person"),
    pytest.param({"session": "s" * 501}, id="a session with too long a name"),
    pytest.param({"parent": "ab" * 9}, id="inside of what has too long an id"),
    pytest.param({"parent": ""}, id="inside of what has no id"),
    pytest.param({"start_ns": 9, "end_ns": 8}, id="ends before it begins"),
    pytest.param({"input_tokens": -1}, id="less than nothing"),
    pytest.param({"output_tokens": 2**62}, id="more than a column holds"),
    pytest.param({"first_token_ns": -5}, id="first token before the start"),
    pytest.param({"model": "a\x00b"}, id="a zero in a name"),
    pytest.param({"response_model": "m" * 501}, id="a name too long"),
    pytest.param({"trace": "AB" * 16}, id="capitals in an id"),
    pytest.param({"trace": "ab" * 15 + " a"}, id="a space in an id"),
    pytest.param({"span": "ab" * 9}, id="an id too long"),
]


def call_of(span: Span, **changed: Any) -> CallRow:
    (row,), others = read_calls([record_of(span, **changed)])
    assert not others
    return row


def only(columns: Mapping[str, Sequence[Any] | Constant]) -> dict[str, Any]:
    """The one row of columns."""
    return {name: value[0] if isinstance(value, list | tuple) else value for name, value in columns.items()}


def is_alone(record: bytes | bytearray) -> bool:
    calls, others = read_calls([record])
    assert len(calls) + len(others) == 1
    return bool(calls)


@pytest.mark.parametrize("fields", OTHERS)
def test_a_call_that_no_column_takes_goes_the_way_of_spans(make_span: MakeSpan, fields: dict[str, Any]) -> None:
    assert not is_alone(record_of(replace(called(make_span), **fields)))


def test_odd_records_among_many_keep_no_other_from_being_call_of(make_span: MakeSpan) -> None:
    """All of a batch are looked at together; those that do not fit are found among them."""
    numbers = range(1, 60)
    good = [record_of(called(make_span, trace=number)) for number in numbers]
    odd = [
        *(record_of(replace(called(make_span), **field.values[0])) for field in OTHERS),  # type: ignore[arg-type]
        MARK + b"torn",
        b"\x90",
        record_of(called(make_span), reply="x" * 64_000),
    ]
    mixed = good + odd
    Random(3).shuffle(mixed)
    calls, others = read_calls(mixed)
    assert sorted(call[0] for call in calls) == sorted(
        call_of(called(make_span, trace=number))[0] for number in range(1, 60)
    )
    assert sorted(others) == sorted(odd)


def test_what_is_too_long_for_a_shared_page_or_torn_goes_another_way(make_span: MakeSpan) -> None:
    call = called(make_span)
    assert not is_alone(record_of(call, asked=msgspec.json.encode([{"role": "user", "content": "x" * 64_000}])))
    assert not is_alone(record_of(call, reply="x" * 64_000))
    fields = msgspec.msgpack.decode(record_of(call)[1:])
    for torn in (fields[:5], [*fields[:4], "soon", *fields[5:]], [*fields, "more"]):
        assert not is_alone(MARK + msgspec.msgpack.encode(torn))


@pytest.mark.parametrize("fields", ALONE)
def test_a_call_leaves_what_its_span_would(make_span: MakeSpan, fields: dict[str, Any]) -> None:
    given = called(make_span, **fields)
    call = call_of(given)
    span = span_of(call)
    assert with_values(span) == given
    tally, as_span = Tally(), Tally()
    calls = LoneCalls([call], [9], tally)
    count_lone(span, as_span)
    ((key, sums),) = tally.rows.items()
    ((other_key, others),) = as_span.rows.items()
    assert (key, sums.numbers, sums.latency, sums.first_token) == (
        *(other_key, others.numbers, others.latency),
        others.first_token,
    )
    found, row = only(calls.lines), only(calls.rows)
    assert row == dict(zip(SPAN, span_row(span, 9), strict=True))
    assert {name: found[name] for name in LINE} == dict(zip(LINE, lone_line(span, span_row(span, 9)), strict=True))
    assert (found["id"], found["trace"], found["preview"]) == (9, bytes.fromhex(span.trace), None)
    words: list[str] = []
    texts_in(span.content, span.error, words)
    entry = entry_of([span])
    assert calls.entries == ({span.subject: [(9, entry)]} if entry else {})
    assert calls.words == ([(9, words)] if entry else [])


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


def test_calls_and_spans_of_the_same_traces_come_together(store: Store, make_span: MakeSpan) -> None:
    """A client may trace its own work around a request; its span comes before, with, or after the call."""
    mine = {"project": store.project}
    calls = [called(make_span, trace=number, **mine) for number in (1, 2, 3, 4)]
    before, beside, after = (make_span(trace=number, span="cd" * 8, name="work", **mine) for number in (2, 3, 4))
    assert take_in(store, [before]) == 1
    assert take_in(store, [beside], calls=[call_of(call) for call in calls]) == 5
    assert take_in(store, [after]) == 1
    assert take_in(store, [], calls=[call_of(call) for call in calls]) == 0
    assert store.traces.get(calls[0].trace).spans == (calls[0],)
    for call, work in zip(calls[1:], (before, beside, after), strict=True):
        found = {span.span: span for span in store.traces.get(call.trace).spans}
        assert found.keys() == {call.span, work.span}
        assert found[call.span].content == call.content
    (minute,) = store.traces.series(since=datetime(2026, 1, 1, tzinfo=UTC), until=datetime(2027, 1, 1, tzinfo=UTC))
    assert (minute.count, minute.cost_micros) == (4 + 3, 4 * 33)


def test_two_calls_of_one_trace_are_both_kept(store: Store, make_span: MakeSpan) -> None:
    first = called(make_span, project=store.project)
    second = called(make_span, span="cd" * 8, project=store.project)
    assert take_in(store, [], calls=[call_of(first), call_of(second), call_of(first)]) == 2
    assert {span.span for span in store.traces.get(first.trace).spans} == {first.span, second.span}


def own_id(number: int) -> TraceId:
    """An id as the gateway makes it, at second `number` of a day."""
    return TraceId(f"{1_700_000_000_000 + number:012x}{number:020x}")


def test_calls_that_were_taken_in_are_known_again_among_ids_of_clients(store: Store, make_span: MakeSpan) -> None:
    """A client's id may be the last of all for ever, so that no id of ours comes after all that is there."""
    mine = {"project": store.project, "end_ns": 1_700_000_100 * 10**9}
    ours = [
        replace(called(make_span, start_ns=(1_700_000_000_000 + number) * 10**6, **mine), trace=own_id(number))
        for number in range(300)
    ]
    theirs = [replace(called(make_span, start_ns=5, **mine), trace=TraceId(f"f{number:031x}")) for number in range(5)]
    calls = [call_of(call) for call in (*ours, *theirs)]
    assert take_in(store, [], calls=calls[::2]) == len(calls[::2])
    assert take_in(store, [], calls=calls) == len(calls[1::2])
    assert take_in(store, [], calls=calls) == 0
    assert store.traces.count() == len(calls)


def test_whether_spans_are_there_is_not_found_by_reading_all_of_them(store: Store) -> None:
    if store.database.engine.dialect.name != "sqlite":
        return  # Postgres plans by what is in the table: here that is nothing
    with store.database.reading() as connection:
        plan = connection.exec_driver_sql(f"explain query plan {there_sql(3)}", (1, b"a", 2, b"b", 3, b"c")).all()
    steps = [row[3] for row in plan]
    assert any(step.startswith("SEARCH span USING PRIMARY KEY") for step in steps), steps


def note_of(call: Span) -> SpanEvent:
    said = {"score": 1}
    return SpanEvent(
        trace=call.trace, span=call.span, project=call.project, name="note", time_ns=call.start_ns, attributes=said
    )


def test_what_is_told_of_a_call_is_joined_to_it(store: Store, make_span: MakeSpan) -> None:
    told, waits = (called(make_span, trace=number, project=store.project) for number in (1, 2))
    take_in(store, [], [note_of(waits)])
    assert take_in(store, [], [note_of(told)], calls=[call_of(told), call_of(waits)]) == 2
    for call in (told, waits):
        (span,) = store.traces.get(call.trace).spans
        assert span.content != call.content
        assert "note" in str(span.content)


def test_a_call_of_an_erased_trace_stays_away(store: Store, make_span: MakeSpan) -> None:
    calls = [called(make_span, trace=number, project=store.project) for number in (1, 2)]
    take_in(store, [], calls=[call_of(calls[0])])
    store.traces.remove([calls[0].trace], tombstones=True)
    assert take_in(store, [], calls=[call_of(call) for call in calls]) == 1
    assert [row.id for row in store.traces.list().rows] == [calls[1].trace]
