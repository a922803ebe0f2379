"""Calls that are alone in their trace: what the gateway passed on, taken from the journal into the store by columns.

Most of all that is ever stored is such, and each costs what it takes to read: so it never becomes a `Span`. Everything
else, and a call whose trace has more spans, goes the way of spans; both leave the same rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import starmap
from operator import gt, sub
from typing import Any, cast, get_args

import msgspec

from slipway.domain.rollup import bucket_of
from slipway.store.arrivals import (
    LARGEST_NUMBER,
    LONGEST_TEXT,
    NO_VERDICTS,
    encode_verdicts,
    is_span_id,
    is_trace_id,
)
from slipway.store.call_records import ASKED, MARK, CallRow, asked_texts
from slipway.store.databases.base import Constant
from slipway.store.journal import Payload
from slipway.store.rollups import MINUTE_NS, Tally
from slipway.store.shared_pages import MOST_BYTES, Entry
from slipway.store.trace_pages import SEARCHED_CHARACTERS, encode_said

LARGE_ENTRY = MOST_BYTES // 4
"""Bytes that a trace may say in a page that it shares; more gets a page of its own."""


def read_calls(payloads: Iterable[Payload]) -> tuple[list[CallRow], list[Payload]]:
    """Records of a batch: the calls that every column takes as they are, and all other records."""
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
    traces, spans, parents, names, starts, ends, _, subjects, sessions = columns[:9]
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
        or not all(map(is_span_id, (parent for parent in parents if parent is not None)))
        or not all(starmap(_fit, set(texts)))
        or not all(map(_fit, {*subjects, *sessions}))
    )


def _fit(*texts: str | None) -> bool:
    joined = "".join(filter(None, texts))
    return len(joined) <= LONGEST_TEXT and joined.isprintable()


class LoneCalls:
    """What a batch of calls leaves in each table, each with its number. What comes by columns costs least."""

    def __init__(self, calls: Sequence[CallRow], numbers: Sequence[int], tally: Tally) -> None:
        self.entries: defaultdict[str | None, list[Entry]] = defaultdict(list)
        """What each says, for the pages, by person."""
        self.words: list[tuple[int, list[str]]] = []
        """What each is found by."""
        self.lines: Mapping[str, Sequence[Any] | Constant] = {}
        """Columns of the lines of the traces: values, or the one that all have in common; but project and page."""
        self.rows: Mapping[str, Sequence[Any] | Constant] = {}
        """The same of the rows of the spans."""
        if not calls:
            return
        columns: list[Sequence[Any]] = list(zip(*calls, strict=True))
        traces, spans, parents, names, starts, ends, _, subjects, sessions = columns[:9]
        releases, channels, providers, models, response_models, asked_tokens, wrote, cached = columns[9:17]
        reasoning, costs, finishes, verdicts, asked, replies, estimated, firsts = columns[17:]
        # Ids are bytearrays: sqlite3 looks twice at bytes, and at what is true or false.
        ids = list(map(bytearray.fromhex, spans))
        releases = [release or "" for release in releases]
        shown = [model or other for model, other in zip(models, response_models, strict=True)]
        durations = list(map(sub, ends, starts))
        inside = any(parents)
        decided = [encode_verdicts(one) for one in verdicts] if any(verdicts) else NO_VERDICTS
        self.lines = {
            "id": numbers,
            "trace": list(map(bytearray.fromhex, traces)),
            "root": [id if not parent else None for id, parent in zip(ids, parents, strict=True)] if inside else ids,
            "started_ns": starts,
            "ended_ns": ends,
            "name": names,
            "kind": "chat",
            "status": "ok",
            "release": releases,
            "channel": channels,
            "environment": "",
            "provider": providers,
            "model": shown,
            "session": sessions if any(sessions) else "",
            "subject": [subject or None for subject in subjects] if any(subjects) else None,
            "spans": 1,
            "model_spans": 1,
            "input_tokens": asked_tokens,
            "output_tokens": wrote,
            "cost_micros": costs,
            "verdicts": decided,
            "preview": None,
        }
        self.rows = {
            "trace_id": numbers,
            "span": ids,
            "parent": [bytearray.fromhex(parent) if parent else None for parent in parents] if inside else None,
            "name": names,
            "kind": "chat",
            "start_ns": starts,
            "duration_ns": durations,
            "status": "ok",
            "provider": providers,
            "model": models,
            "response_model": response_models,
            "prompt": "",
            "knowledge": "",
            "input_tokens": asked_tokens,
            "output_tokens": wrote,
            "cached_tokens": cached,
            "reasoning_tokens": reasoning,
            "usage_estimated": list(map(int, estimated)) if any(estimated) else 0,
            "cost_micros": costs,
            "first_token_ns": firsts if any(first is not None for first in firsts) else None,
            "finish": finishes,
            "verdicts": decided,
        }
        alike: defaultdict[tuple[int, bool, str, str, str], list[int]] = defaultdict(list)
        minutes = [start // MINUTE_NS for start in starts]
        roots = [not parent for parent in parents]
        for place, key in enumerate(zip(minutes, roots, releases, channels, shown, strict=True)):
            alike[key].append(place)
        for (minute, root, release, channel, model), places in alike.items():
            sums = tally.rows[minute, root, "chat", release, channel, model]
            sums.numbers[0] += len(places)
            for at, column in ((4, asked_tokens), (5, wrote), (6, cached), (7, costs)):
                sums.numbers[at] += sum(map(column.__getitem__, places))
            for bucket, count in Counter(map(bucket_of, map(durations.__getitem__, places))).items():
                sums.latency[bucket] += count
            for place in places:
                if firsts[place] is not None:
                    sums.first_token[bucket_of(firsts[place])] += 1
        for number, id, subject, messages, reply in zip(numbers, ids, subjects, asked, replies, strict=True):
            if messages:
                self._says(number, id, subject or None, asked_texts(messages), reply)

    def _says(
        self, number: int, id: bytearray, subject: str | None, messages: list[dict[str, Any]], reply: str
    ) -> None:
        self.entries[subject].append((number, encode_said(((id, "", {"messages": messages, "reply": reply}),))))
        found = [text[:SEARCHED_CHARACTERS] for message in messages for text in message.values()]
        found.append(reply[:SEARCHED_CHARACTERS])
        self.words.append((number, found))


_kinds = get_args(CallRow)
_decoder: msgspec.msgpack.Decoder[CallRow] = msgspec.msgpack.Decoder(
    cast("type[CallRow]", tuple[(*_kinds[:ASKED], memoryview, *_kinds[ASKED + 1 :])])  # type: ignore[misc]
)
