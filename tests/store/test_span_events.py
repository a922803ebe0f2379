"""Log records of spans: they wait for their span sealed, or go into what it says, on every database."""

from typing import Any

import pytest
from sqlalchemy import select

from slipway.domain.ids import SpanId, TraceId
from slipway.domain.trace import SpanEvent
from slipway.store.schema import waiting_event
from slipway.store.store import Store
from slipway.wire.dialects.joining import join_events

TRACE, SPAN = TraceId(f"{7:032x}"), SpanId(f"{9:016x}")


def said(name: str, at: int = 1, **attributes: Any) -> SpanEvent:
    return SpanEvent(trace=TRACE, span=SPAN, name=name, time_ns=at, attributes=attributes)


QUESTION = said("gen_ai.user.message", 1, content="What does a lampshade cost?")
ANSWER = said("gen_ai.choice", 2, message={"role": "assistant", "content": "Nine euros."}, finish_reason="stop")


def test_what_waits_is_sealed_and_handed_over_once(store: Store) -> None:
    assert store.span_events.hold({(TRACE, SPAN): [QUESTION, ANSWER]}) == 2
    with store.database.reading() as connection:
        (row,) = connection.execute(select(waiting_event)).all()
    assert b"lampshade" not in row.body
    assert store.span_events.claim([(TRACE, SpanId("1" * 16))]) == {}
    assert store.span_events.claim([(TRACE, SPAN)]) == {(TRACE, SPAN): [QUESTION, ANSWER]}
    assert store.span_events.claim([(TRACE, SPAN)]) == {}


def test_what_comes_late_is_said_found_and_shown(store: Store, make_span: Any) -> None:
    store.traces.add([make_span(7, span=SPAN, kind="chat", content={"attributes": {"a": 1}})])
    assert store.span_events.attach({(TRACE, SPAN): [QUESTION]}, join=join_events) == {(TRACE, SPAN)}
    assert store.span_events.attach({(TRACE, SPAN): [ANSWER]}, join=join_events) == {(TRACE, SPAN)}
    # Once more, as after an answer that was lost on its way.
    assert store.span_events.attach({(TRACE, SPAN): [QUESTION, ANSWER]}, join=join_events) == {(TRACE, SPAN)}
    span = store.traces.get(TRACE).root
    assert span.content["messages"] == [{"role": "user", "text": "What does a lampshade cost?"}]
    assert span.content["output"] == [{"role": "assistant", "text": "Nine euros."}]
    assert span.content["attributes"] == {"a": 1}
    assert span.finish == "stop"
    assert store.traces.count(text="lampshade nine") == 1
    assert store.traces.summary(TRACE).preview == "What does a lampshade cost?"
    store.traces.remove([TRACE])
    assert store.traces.count(text="lampshade") == 0


def test_a_span_that_said_nothing_says_it_now(store: Store, make_span: Any) -> None:
    store.traces.add([make_span(7, span=SPAN, kind="chat")])
    store.span_events.attach({(TRACE, SPAN): [QUESTION]}, join=join_events)
    assert store.traces.get(TRACE).root.content["messages"]
    assert store.traces.count(text="lampshade") == 1


def test_spans_that_are_not_there_take_nothing(store: Store, make_span: Any) -> None:
    store.traces.add([make_span(7)])
    assert store.span_events.attach({(TRACE, SPAN): [QUESTION]}, join=join_events) == set()


@pytest.mark.parametrize("tombstones", [True, False])
def test_a_removed_trace_takes_along_what_waits_for_it(store: Store, make_span: Any, tombstones: bool) -> None:
    store.traces.add([make_span(7)])
    store.span_events.hold({(TRACE, SPAN): [QUESTION]})
    store.traces.remove([TRACE], tombstones=tombstones)
    assert store.span_events.claim([(TRACE, SPAN)]) == {}
    # Records of an erased trace are not taken in again.
    assert store.span_events.hold({(TRACE, SPAN): [QUESTION]}) == (0 if tombstones else 1)


def test_what_waited_too_long_is_dropped(store: Store) -> None:
    store.span_events.hold({(TRACE, SPAN): [QUESTION]})
    assert store.span_events.forget() == 0
    assert store.span_events.forget(before_us=2**60) == 1
    assert store.span_events.claim([(TRACE, SPAN)]) == {}
