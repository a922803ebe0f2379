"""Plain calls: journal records about nobody and no part of anything else, taken into the store without a detour.

Most of all that is ever stored is such, and each costs what it takes to read: so it never becomes a `Span`. Everything
else, and a plain call whose trace has more spans, goes the way of spans; both leave the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, cast, get_args

import msgspec

from slipway.domain.rollup import bucket_of
from slipway.store.arrivals import LARGEST_NUMBER, LONGEST_TEXT, NO_VERDICTS, is_span_id, is_trace_id
from slipway.store.call_records import ASKED, CallRow, asked_texts
from slipway.store.databases.base import Constant
from slipway.store.rollups import MINUTE_NS, Tally
from slipway.store.shared_pages import MOST_BYTES, Entry
from slipway.store.trace_pages import SEARCHED_CHARACTERS, encode_said

LARGE_ENTRY = MOST_BYTES // 4
"""Bytes that a trace may say in a page that it shares; more gets a page of its own."""
LINE_COMMON: dict[str, Constant] = {
    "kind": "chat",
    "status": "ok",
    "environment": "",
    "session": "",
    "subject": None,
    "spans": 1,
    "model_spans": 1,
    "verdicts": NO_VERDICTS,
    "preview": None,
}
"""What the lines of all plain calls have in common."""
SPAN_COMMON: dict[str, Constant] = {
    "parent": None,
    "kind": "chat",
    "status": "ok",
    "prompt": "",
    "knowledge": "",
    "verdicts": NO_VERDICTS,
}
LINE_COLUMNS = (
    *("root", "started_ns", "ended_ns", "name", "release", "channel", "provider", "model"),
    *("input_tokens", "output_tokens", "cost_micros", "id", "trace"),
)
"""The others, but project and page."""
SPAN_COLUMNS = (
    *("trace_id", "span", "name", "start_ns", "duration_ns", "provider", "model", "response_model", "input_tokens"),
    *("output_tokens", "cached_tokens", "reasoning_tokens", "usage_estimated", "cost_micros", "first_token_ns"),
    "finish",
)


def read_plain(payload: bytes | bytearray | memoryview) -> CallRow | None:
    """The call of a record, if it is a plain one and every column takes it as it is; None for all others."""
    try:
        row: CallRow = _decoder.decode(payload[1:])
    except ValueError:
        return None
    trace, span, parent, name, start, end, _, subject, session = row[:9]
    release, channel, provider, model, response_model, asked_tokens, wrote, cached = row[9:17]
    reasoning, cost, finish, verdicts, asked, reply, _, first = row[17:]
    # Or-ed, numbers are below 2 ** 62 if all of them are, and below nothing if any is.
    if (
        parent
        or subject
        or session
        or verdicts
        or start > end
        or (start | end | asked_tokens | wrote | cached | reasoning | cost | (first or 0)) // LARGEST_NUMBER
        or len(asked) + len(reply) > LARGE_ENTRY // 2
        or not (is_trace_id(trace) and is_span_id(span))
        or not _fit(name, release or "", channel, provider, model, response_model, finish)
    ):
        return None
    return row


@lru_cache(maxsize=4096)
def _fit(*texts: str) -> bool:
    joined = "".join(texts)
    return len(joined) <= LONGEST_TEXT and joined.isprintable()


class PlainCalls:
    """What a batch of plain calls leaves in each table."""

    def __init__(self, numbered: Iterable[tuple[CallRow, int]], tally: Tally) -> None:
        self.entries: list[Entry] = []
        """What each says, for the pages."""
        self.words: list[tuple[int, list[str]]] = []
        """What each is found by."""
        self.lines: list[tuple[Any, ...]] = []
        self.rows: list[tuple[Any, ...]] = []
        for call, number in numbered:
            self._add(call, number, tally)

    def _add(self, call: CallRow, number: int, tally: Tally) -> None:
        trace, span, _, name, start, end = call[:6]
        of_release, channel, provider, model, response_model, asked_tokens, wrote, cached = call[9:17]
        reasoning, cost, finish, _, asked, reply, estimated, first = call[17:]
        # Ids are bytearrays: sqlite3 looks twice at bytes, and at what is true or false.
        id, release, duration = bytearray.fromhex(span), of_release or "", end - start
        shown, counted = model or response_model, int(estimated)
        line = id, start, end, name, release, channel, provider, shown, asked_tokens, wrote, cost, number
        self.lines.append((*line, bytearray.fromhex(trace)))
        row = number, id, name, start, duration, provider, model, response_model, asked_tokens, wrote, cached, reasoning
        self.rows.append((*row, counted, cost, first, finish))
        sums = tally.rows[start // MINUTE_NS, True, "chat", release, channel, shown]
        numbers = sums.numbers
        numbers[0] += 1
        numbers[4] += asked_tokens
        numbers[5] += wrote
        numbers[6] += cached
        numbers[7] += cost
        sums.latency[bucket_of(duration)] += 1
        if first is not None:
            sums.first_token[bucket_of(first)] += 1
        if asked:
            messages = asked_texts(asked)
            self.entries.append((number, encode_said(((id, "", {"messages": messages, "reply": reply}),))))
            found = [text[:SEARCHED_CHARACTERS] for message in messages for text in message.values()]
            found.append(reply[:SEARCHED_CHARACTERS])
            self.words.append((number, found))


_kinds = get_args(CallRow)
_decoder: msgspec.msgpack.Decoder[CallRow] = msgspec.msgpack.Decoder(
    cast("type[CallRow]", tuple[(*_kinds[:ASKED], memoryview, *_kinds[ASKED + 1 :])])  # type: ignore[misc]
)
