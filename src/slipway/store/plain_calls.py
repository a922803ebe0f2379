"""Plain calls: journal records about nobody and no part of anything else, taken into the store without a detour.

Most of all that is ever stored is such, and each costs what it takes to read: so it never becomes a `Span`. Everything
else, and a plain call whose trace has more spans, goes the way of spans; both leave the same rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import starmap
from operator import gt, itemgetter, sub
from typing import Any, cast, get_args

import msgspec

from slipway.domain.rollup import bucket_of
from slipway.store.arrivals import LARGEST_NUMBER, LONGEST_TEXT, NO_VERDICTS, is_span_id, is_trace_id
from slipway.store.call_records import ASKED, MARK, CallRecord, CallRow, asked_texts
from slipway.store.databases.base import Constant
from slipway.store.journal import Payload
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

ABOUT = tuple(map(CallRecord.__struct_fields__.index, ("parent", "subject", "session", "verdicts")))
"""Places of what a plain call has nothing of."""


def read_plain(payloads: Iterable[Payload]) -> tuple[list[CallRow], list[Payload]]:
    """Records of a batch: the calls that are plain and that every column takes as they are, and all other records."""
    read: list[tuple[CallRow, Payload]] = []
    others: list[Payload] = []
    for payload in payloads:
        if payload[:1] == MARK:
            try:
                read.append((_decoder.decode(payload[1:]), payload))
            except ValueError:
                others.append(payload)
        else:
            others.append(payload)
    rows = [row for row, _ in read]
    if any(any(map(itemgetter(place), rows)) for place in ABOUT):
        others += [payload for row, payload in read if any(_about(row))]
        read = [one for one in read if not any(_about(one[0]))]
    calls: list[CallRow] = []
    _sort_out(read, calls, others)
    return calls, others


def _sort_out(read: list[tuple[CallRow, Payload]], calls: list[CallRow], others: list[Payload]) -> None:
    # Nearly always all of them are fit, and to look at all at once costs a fifth of looking at each.
    rows = [row for row, _ in read]
    if not rows or _are_fit(rows):
        calls += rows
    elif len(rows) == 1:
        others.append(read[0][1])
    else:
        half = len(rows) // 2
        _sort_out(read[:half], calls, others)
        _sort_out(read[half:], calls, others)


def _are_fit(rows: Sequence[CallRow]) -> bool:
    columns = list(zip(*rows, strict=True))
    traces, spans, _, names, starts, ends = columns[:6]
    releases, channels, providers, models, response_models, asked_tokens, wrote, cached = columns[9:17]
    reasoning, costs, finishes, _, asked, replies, _, firsts = columns[17:]
    texts = zip(names, releases, channels, providers, models, response_models, finishes, strict=True)
    told = [first for first in firsts if first is not None]
    numbers = (starts, ends, asked_tokens, wrote, cached, reasoning, costs, told or (0,))
    return not (
        any(map(gt, starts, ends))
        or min(map(min, numbers)) < 0
        or max(map(max, numbers)) >= LARGEST_NUMBER
        or max(map(len, asked)) + max(map(len, replies)) > LARGE_ENTRY // 2
        or not (all(map(is_trace_id, traces)) and all(map(is_span_id, spans)))
        or not all(starmap(_fit, set(texts)))
    )


def _fit(*texts: str | None) -> bool:
    joined = "".join(filter(None, texts))
    return len(joined) <= LONGEST_TEXT and joined.isprintable()


class PlainCalls:
    """What a batch of plain calls leaves in each table, each with its number. What comes by columns costs least."""

    def __init__(self, calls: Sequence[CallRow], numbers: Sequence[int], tally: Tally) -> None:
        self.entries: list[Entry] = []
        """What each says, for the pages."""
        self.words: list[tuple[int, list[str]]] = []
        """What each is found by."""
        self.lines: list[Sequence[Any]] = [()] * len(LINE_COLUMNS)
        """By column."""
        self.rows: list[Sequence[Any]] = [()] * len(SPAN_COLUMNS)
        if not calls:
            return
        columns: list[Sequence[Any]] = list(zip(*calls, strict=True))
        traces, spans, _, names, starts, ends = columns[:6]
        releases, channels, providers, models, response_models, asked_tokens, wrote, cached = columns[9:17]
        reasoning, costs, finishes, _, asked, replies, estimated, firsts = columns[17:]
        # Ids are bytearrays: sqlite3 looks twice at bytes, and at what is true or false.
        ids = list(map(bytearray.fromhex, spans))
        releases = [release or "" for release in releases]
        shown = [model or other for model, other in zip(models, response_models, strict=True)]
        durations = list(map(sub, ends, starts))
        self.lines = [ids, starts, ends, names, releases, channels, providers, shown, asked_tokens, wrote, costs]
        self.lines += [numbers, list(map(bytearray.fromhex, traces))]
        self.rows = [numbers, ids, names, starts, durations, providers, models, response_models, asked_tokens, wrote]
        self.rows += [cached, reasoning, list(map(int, estimated)), costs, firsts, finishes]
        same: defaultdict[tuple[int, str, str, str], list[int]] = defaultdict(list)
        minutes = [start // MINUTE_NS for start in starts]
        for place, key in enumerate(zip(minutes, releases, channels, shown, strict=True)):
            same[key].append(place)
        for (minute, release, channel, model), places in same.items():
            sums = tally.rows[minute, True, "chat", release, channel, model]
            sums.numbers[0] += len(places)
            for at, column in ((4, asked_tokens), (5, wrote), (6, cached), (7, costs)):
                sums.numbers[at] += sum(map(column.__getitem__, places))
            for bucket, count in Counter(map(bucket_of, map(durations.__getitem__, places))).items():
                sums.latency[bucket] += count
            for place in places:
                if firsts[place] is not None:
                    sums.first_token[bucket_of(firsts[place])] += 1
        for number, id, messages, reply in zip(numbers, ids, asked, replies, strict=True):
            if messages:
                self._says(number, id, asked_texts(messages), reply)

    def _says(self, number: int, id: bytearray, messages: list[dict[str, Any]], reply: str) -> None:
        self.entries.append((number, encode_said(((id, "", {"messages": messages, "reply": reply}),))))
        found = [text[:SEARCHED_CHARACTERS] for message in messages for text in message.values()]
        found.append(reply[:SEARCHED_CHARACTERS])
        self.words.append((number, found))


_about = itemgetter(*ABOUT)
_kinds = get_args(CallRow)
_decoder: msgspec.msgpack.Decoder[CallRow] = msgspec.msgpack.Decoder(
    cast("type[CallRow]", tuple[(*_kinds[:ASKED], memoryview, *_kinds[ASKED + 1 :])])  # type: ignore[misc]
)
