"""Spans and their log records in every order: the stored trace is the same."""

import itertools
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from slipway.domain.ids import SpanId, TraceId, new_span_id, new_trace_id
from slipway.domain.trace import Span, SpanEvent
from slipway.store.call_records import encode_call
from slipway.store.journal import Journal
from slipway.store.lone_calls import read_calls
from slipway.store.store import Store
from slipway.tracing.ingest import drain
from slipway.tracing.intake import decode_record, encode_events, take_in
from slipway.tracing.recorder import encode_spans
from slipway.wire.otlp import decode_logs, decode_traces
from slipway.wire.otlp_raw import JSON

TRACE, SPAN, PARENT = TraceId(f"{7:032x}"), SpanId(f"{9:016x}"), SpanId(f"{8:016x}")
START = 1_780_000_000_000_000_000


def event(name: str, at: int, **attributes: Any) -> SpanEvent:
    return SpanEvent(trace=TRACE, span=SPAN, project="shop", name=name, time_ns=at, attributes=attributes)


def a_span(id: SpanId, **fields: Any) -> Span:
    return Span(trace=TRACE, span=id, name="step", start_ns=START, end_ns=START + 9, project="shop", **fields)


PARTS = {
    "root": ([a_span(PARENT)], []),
    "chat": ([a_span(SPAN, kind="chat", parent=PARENT)], []),
    "question": ([], [event("gen_ai.user.message", 1, content="Why?")]),
    "answer": ([], [event("gen_ai.choice", 2, message={"content": "Because."}, finish_reason="stop")]),
}


@pytest.mark.parametrize("order", list(itertools.permutations(PARTS)), ids="-".join)
def test_every_order_gives_the_same_trace(store: Store, order: tuple[str, ...]) -> None:
    shop = store.of("shop")
    for name in order:
        spans, events = PARTS[name]
        # Twice: senders repeat what was not acknowledged.
        take_in(shop, spans, events)
        take_in(shop, spans, events)
    root, chat = shop.traces.get(TRACE).spans
    assert (root.span, chat.parent, chat.finish) == (PARENT, PARENT, "stop")
    assert sorted(one["text"] for one in chat.content["messages"]) == ["Why?"]  # type: ignore[attr-defined,index]
    assert chat.content["output"] == [{"role": "assistant", "text": "Because."}]
    assert shop.span_events.claim([(TRACE, SPAN)]) == {}


def test_tokens_that_only_a_record_tells_are_counted_and_priced(store: Store) -> None:
    details = event(
        "gen_ai.client.inference.operation.details",
        3,
        **{"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini", "gen_ai.usage.input_tokens": 10**6},
    )
    take_in(store, [a_span(SPAN, kind="chat")], [details])
    chat = store.of("shop").traces.get(TRACE).root
    assert (chat.model, chat.input_tokens) == ("gpt-4o-mini", 10**6)
    assert chat.cost_micros > 0


def test_evaluation_results_become_scores(store: Store) -> None:
    result = event(
        "gen_ai.evaluation.result", 4, **{"gen_ai.evaluation.name": "helpful", "gen_ai.evaluation.score.value": 0.5}
    )
    take_in(store, [], [result])
    take_in(store, [a_span(SPAN, kind="chat")])
    assert store.of("shop").traces.get(TRACE).root.content["scores"] == [{"name": "helpful", "value": 0.5}]


def test_records_go_through_the_journal(store: Store) -> None:
    journal = Journal.open(store.journal_folder, worker="w")
    journal.append(encode_events(PARTS["question"][1]))
    journal.append(encode_spans(PARTS["chat"][0]))
    journal.append(encode_events(PARTS["answer"][1]))
    done = drain(store)
    assert (done.records, done.spans, done.damaged) == (3, 1, 0)
    assert store.of("shop").traces.get(TRACE).root.content["messages"] == [{"role": "user", "text": "Why?"}]


def test_odd_values_of_a_record_are_kept_as_text() -> None:
    odd = event("x", 1, big=2**70, lone="\ud800")
    spans, (back,) = decode_record(encode_events([odd]))
    assert spans == []
    assert back.attributes["big"] == str(2**70)


CALL = (
    *(TRACE, SPAN, None, "chat", 1, 2, "shop", None, "", None, "", "", "m", "m"),
    *(0, 0, 0, 0, 0, "", {}, b"", "", False, 1),
)
RECORDS = (
    encode_spans([a_span(SPAN, kind="chat", content={"messages": [{"role": "user", "text": "Why?"}]})]),
    encode_events([event("gen_ai.user.message", 1, content="Why?")]),
    bytes(encode_call(CALL)),
)


def damaged(record: tuple[bytes, Sequence[tuple[int, int]]]) -> bytes:
    """The record with some of its bytes changed."""
    changed = bytearray(record[0])
    for at, byte in record[1]:
        changed[at % len(changed)] = byte
    return bytes(changed)


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.tuples(
            st.sampled_from(RECORDS), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4)
        ).map(damaged),
    )
)
@example(b"")
@example(b"\x81\xa5event\x90")
@example(b"\x91\x81\xa7content\x81\xa1a" + b"\x91" * 5000)
@example(b"\xc1" + b"\x91" * 5000)
def test_a_record_of_any_bytes_is_read_or_refused(payload: bytes) -> None:
    _, others = read_calls([payload])
    for other in others:
        with suppress(ValueError):
            decode_record(other)


def test_a_record_that_is_nested_too_deeply_holds_up_no_other(store: Store) -> None:
    with Journal.open(store.journal_folder, worker="w") as journal:
        journal.append(b"\x91\x81\xa7content\x81\xa1a" + b"\x91" * 5000)
        journal.append(encode_spans([a_span(SPAN)]))
    done = drain(store)
    assert (done.spans, done.damaged) == (1, 1)


HUGE = st.sampled_from([1e300, 1e308, 2**63, 2**70, -(2**70), "9" * 30, "x", None, True, 5])
COUNTED = st.sampled_from(
    ["gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "llm.cost.total", "gen_ai.response.time_to_first_chunk"]
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(COUNTED, HUGE, max_size=3), HUGE, HUGE, HUGE)
@example({}, "9" * 30, 5, 5)
@example({"gen_ai.usage.input_tokens": 1e308}, 5, 6, 5)
@example({"slipway.span": '{"input_tokens": 18446744073709551615}'}, 5, 6, 5)
@example({"gen_ai.response.time_to_first_chunk": 1e290}, 5, 6, 5)
def test_what_the_door_takes_comes_out_of_the_journal(
    store: Store, attributes: dict[str, Any], start: Any, end: Any, told: Any
) -> None:
    """A span that a record cannot hold would take along all others of its request."""
    pairs = [{"key": name, "value": {"stringValue": str(value)}} for name, value in attributes.items()]
    place = {"traceId": new_trace_id(), "spanId": new_span_id()}
    span = {**place, "startTimeUnixNano": start, "endTimeUnixNano": end, "attributes": pairs}
    spans = decode_traces(whole("Spans", "spans", span), JSON, project="lamps").spans
    record = {**place, "eventName": "gen_ai.choice", "timeUnixNano": told, "attributes": pairs}
    events = decode_logs(whole("Logs", "logRecords", record), JSON, project="lamps").events
    read, _ = decode_record(encode_spans(spans))
    assert [one.span for one in read] == [one.span for one in spans]
    _, heard = decode_record(encode_events(events))
    assert heard == events
    assert take_in(store, read, heard) == len(spans)


def whole(signal: str, members: str, member: dict[str, Any]) -> bytes:
    """A request of OTLP in JSON with one member."""
    return json.dumps({f"resource{signal}": [{f"scope{signal}": [{members: [member]}]}]}).encode()


def test_sums_that_no_column_holds_stop_nothing(store: Store) -> None:
    for place in range(3):
        span = a_span(SpanId(f"{place + 1:016x}"), kind="chat", model="m", input_tokens=2**62, cost_micros=2**62)
        assert take_in(store, [span]) == 1
    assert len(store.of("shop").traces.get(TRACE).spans) == 3
