"""Takes spans and the log records of spans into the store, each joined to the other whichever came first."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain, groupby
from operator import itemgetter

import msgspec

from slipway.domain.trace import Span, SpanEvent
from slipway.store.call_records import MARK, PROJECT, SPAN, TRACE, CallRow, is_call, read_call, span_of
from slipway.store.journal import Payload
from slipway.store.span_events import Place
from slipway.store.store import Store
from slipway.store.trace_pages import plain
from slipway.tracing.cost import PriceOf, catalog_price, with_cost
from slipway.tracing.recorder import read_spans
from slipway.wire.dialects.joining import join_events

_EVENTS = b"\x81"
"""First byte of a record of events: a mapping of one entry. Spans begin as a list does."""


def encode_events(events: Sequence[SpanEvent]) -> bytes:
    """What a journal record of log records holds."""
    try:
        return msgspec.msgpack.encode({"events": events}, enc_hook=str)
    except (OverflowError, TypeError, ValueError):
        told = [{name: getattr(one, name) for name in SpanEvent.__slots__} for one in events]
        return msgspec.msgpack.encode({"events": plain(told)})


def decode_record(payload: Payload) -> tuple[list[Span], list[SpanEvent]]:
    """Spans and log records of a journal record. Raises `ValueError` for anything else."""
    try:
        if payload[:1] == MARK:
            return [read_call(payload)], []
        if payload[:1] == _EVENTS:
            return [], _events.decode(payload).events
        return read_spans(payload), []
    except RecursionError as wrong:
        raise ValueError(f"a record that is nested too deeply: {wrong}") from wrong


def take_in(
    store: Store,
    spans: Iterable[Span],
    events: Iterable[SpanEvent] = (),
    *,
    calls: Iterable[CallRow] = (),
    price_of: PriceOf = catalog_price,
) -> int:
    """Stores what came, in one transaction; returns how many spans were new. Each goes to its own project.

    A log record whose span is not there yet waits for it, for a day at most. `calls` are what `read_calls` gave.
    """
    by_project: defaultdict[str, _Batch] = defaultdict(_Batch)
    for span in spans:
        by_project[span.project].spans.append(span)
    for project, some in groupby(calls, itemgetter(PROJECT)):
        by_project[project].calls += some
    for event in events:
        by_project[event.project].events.append(event)
    with store.database.joining():
        return sum(
            _take_in(store if project == store.project else store.of(project), batch, price_of)
            for project, batch in by_project.items()
        )


class _Batch:
    """What came for one project."""

    __slots__ = ("calls", "events", "spans")

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.calls: list[CallRow] = []
        self.events: list[SpanEvent] = []


def _take_in(store: Store, batch: _Batch, price_of: PriceOf) -> int:
    spans, calls = batch.spans, batch.calls
    told: dict[Place, list[SpanEvent]] = {}
    for event in batch.events:
        told.setdefault((event.trace, event.span), []).append(event)
    new = 0
    if spans or calls:
        if store.span_events.any_wait():
            places = chain(((span.trace, span.span) for span in spans), ((call[TRACE], call[SPAN]) for call in calls))
            for place, some in store.span_events.claim(places).items():
                told.setdefault(place, [])[:0] = some
        if told:
            # What is told of a call becomes part of its content, so that it goes the way of spans.
            spans += [span_of(call) for call in calls if (call[TRACE], call[SPAN]) in told]
            calls = [call for call in calls if (call[TRACE], call[SPAN]) not in told]
            spans = [
                join_events(span, told[place]) if (place := (span.trace, span.span)) in told else span for span in spans
            ]
        new = store.traces.add(
            [span if span.cost_micros or is_call(span) else with_cost(span, price_of=price_of) for span in spans], calls
        )
    if new and new == len(spans) + len(calls):
        # Joined above. A span that was there before changed nothing, though: its records go the other way.
        for span in spans:
            told.pop((span.trace, span.span), None)
    if told:
        attached = store.span_events.attach(told, join=join_events)
        store.span_events.hold({place: some for place, some in told.items() if place not in attached})
    return new


class _Told(msgspec.Struct):
    """A record of events."""

    events: list[SpanEvent]


_events = msgspec.msgpack.Decoder(_Told)
