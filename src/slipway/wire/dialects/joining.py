"""Log records that name a span, joined to it: whichever of the two came first, and once however often they came."""

import zlib
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import msgspec

from slipway.domain.trace import Span, SpanEvent
from slipway.wire.dialects.base import Event
from slipway.wire.dialects.columns import columns
from slipway.wire.dialects.content import conversation, gather

JOINED = "log_records"
"""Key of the content that holds a checksum of every record that was joined."""
FIELDS = tuple(field.name for field in fields(Span))
TELLING = ("provider", "model", "input_tokens", "output_tokens", "finish")
FILLED = ("provider", "model", "response_model", "finish", "input_tokens", "output_tokens", "cached_tokens")


def join_events(span: Span, records: Sequence[SpanEvent]) -> Span:
    """The span with what the records say. What it says itself stays: then the records only repeat it."""
    joined: list[int] = list(span.content.get(JOINED, ()))  # type: ignore[call-overload]
    fresh = []
    for record in sorted(records, key=lambda one: one.time_ns):
        checksum = _checksum(record)
        if checksum not in joined:
            joined.append(checksum)
            fresh.append(Event(name=record.name, time_ns=record.time_ns, attributes=record.attributes))
    if not fresh:
        return span
    said = gather(fresh)
    told: dict[str, Any] = dict(span.content)
    # Most who send details send them with the span as well: then there is nothing to read in them.
    complete = all(told.get(key) for key in ("messages", "output")) and all(getattr(span, name) for name in TELLING)
    details = {} if complete else said.details
    told_in, told_out = conversation(details) if details else ([], [])
    for key, by_message, by_details in (("messages", said.messages, told_in), ("output", said.output, told_out)):
        if not told.get(key):
            told[key] = by_message or by_details
        elif by_message and JOINED in span.content:
            told[key] = [*told[key], *by_message]
        if not told[key]:
            del told[key]
    for key, more in (("scores", said.scores), ("events", said.others)):
        if more:
            told[key] = [*told.get(key, ()), *more]
    told[JOINED] = joined
    known = columns(details, (), {}, start_ns=span.start_ns) if details else {}
    known.setdefault("finish", said.finish)
    filled = {name: known[name] for name in FILLED if known.get(name) and not getattr(span, name)}
    # Whatever kind of span came in, as long as it has the fields of one.
    return Span(**({name: getattr(span, name) for name in FIELDS} | filled | {"content": told}))


def _checksum(record: SpanEvent) -> int:
    try:
        body = msgspec.msgpack.encode([record.time_ns, record.name, record.attributes], enc_hook=str)
    except (OverflowError, TypeError, ValueError):
        body = repr([record.time_ns, record.name, record.attributes]).encode("utf-8", "backslashreplace")
    return zlib.crc32(body)
