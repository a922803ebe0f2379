"""Writes spans that arrive: lines, narrow rows, sealed pages, words and roll-ups, in one transaction."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, select, update

from slipway.domain.errors import ContentErased
from slipway.domain.ids import TraceId
from slipway.domain.trace import Span
from slipway.store.arrivals import (
    LINE,
    SPAN,
    Arrival,
    clean,
    count_lone,
    lone_line,
    span_row,
)
from slipway.store.call_records import START_NS, CallRow, span_of
from slipway.store.call_records import TRACE as TRACE_ID
from slipway.store.databases.base import Database
from slipway.store.encryption import Keys
from slipway.store.lone_calls import LARGE_ENTRY, LoneCalls
from slipway.store.rollups import Tally, write_tally
from slipway.store.schema import erased, span, trace, trace_page
from slipway.store.shared_pages import SharedPages
from slipway.store.trace_pages import entry_of, entry_of_said, press, preview, texts_in
from slipway.store.word_index import WordIndex

MADE_BEFORE_MS = 60_000
"""Ids of our own begin with when they were made, at most so long before their requests where there are many."""
AT_ONCE = 400
"""A few hundred at a time: every database limits the number of parameters."""
TRACE = (*LINE, "id", "project", "trace", "preview", "page")
CHANGING = (*LINE, "preview", "page")
"""Columns of a trace's line that spans which come later may change."""
PAGE = ("trace_id", "project", "subject", "body")
_line = itemgetter(*LINE)


class _Fresh(NamedTuple):
    """A trace that is seen for the first time; `arrival` is None where it is one span."""

    number: int
    trace: TraceId
    spans: Sequence[Span]
    subject: str | None
    arrival: Arrival | None


class TraceWriter:
    """Takes in the spans of one project."""

    def __init__(self, database: Database, project: str, keys: Keys, pages: SharedPages, words: WordIndex) -> None:
        self.database, self.project, self.keys = database, project, keys
        self.pages, self.words = pages, words

    def add(self, spans: Sequence[Span], calls: Sequence[CallRow] = ()) -> int:
        """Stores spans with their content, words and roll-ups in one transaction; returns how many were new.

        Spans that are there already (same trace and span) change nothing. Spans of one trace may come in any order and
        in many batches; what the root knows (release, channel, session, environment, person) counts for all of them.
        `calls` are what `read_calls` gave.
        """
        incoming: defaultdict[TraceId, list[Span]] = defaultdict(list)
        for one in spans:
            if cleaned := clean(one):
                incoming[cleaned.trace].append(cleaned)
        lone: dict[TraceId, CallRow] = dict(zip(map(itemgetter(TRACE_ID), calls), calls, strict=True))
        if len(lone) < len(calls) or not incoming.keys().isdisjoint(lone):
            lone.clear()
            for call in calls:
                id = call[TRACE_ID]
                if id in incoming or id in lone:
                    incoming[id].append(span_of(call))
                else:
                    lone[id] = call
        if not (incoming or lone):
            return 0
        with self.database.joining() as connection:
            self.database.dialect.lock_project(connection, self.project)
            known = self._known(connection, [*incoming, *lone], lone.values())
            for id in lone.keys() & (known.keys() | incoming.keys()):
                incoming[id].append(span_of(lone.pop(id)))
            for id in self._gone(connection, [*incoming, *lone]):
                incoming.pop(id, None)
                lone.pop(id, None)
            tally = Tally()
            fresh = {id: some for id, some in incoming.items() if id not in known} if known else incoming
            new = self._add_fresh(connection, fresh, list(lone.values()), tally)
            more = {id: row for id, row in known.items() if id in incoming}
            new += self._add_to(connection, incoming, more, tally)
            write_tally(connection, self.database, self.project, tally)
        return new

    def _known(
        self, connection: Connection, ids: Iterable[TraceId], calls: Iterable[CallRow] = ()
    ) -> dict[TraceId, Row[Any]]:
        """Rows of the traces that are there already. `calls` are those of them that are alone in their trace."""
        there: list[int] = []
        # Ids of our own grow with time: what comes after all that is there is not.
        sql = "select trace from trace where project = ? order by trace desc limit 1"
        newest = self.database.raw(connection, sql, (self.project,)).scalar()
        last = "" if newest is None else bytes(newest).hex()
        asked: Sequence[TraceId] = [id for id in ids if id <= last]
        if len(asked) > AT_ONCE // 4:
            asked = self._without_new(connection, asked, calls)
        for some in some_of(asked):
            marks = ", ".join("?" * len(some))
            sql = f"select id from trace where project = ? and trace in ({marks})"
            there += self.database.raw(connection, sql, (self.project, *map(bytearray.fromhex, some))).scalars()
        rows: dict[TraceId, Row[Any]] = {}
        for numbers in some_of(there):
            for row in connection.execute(select(trace).where(trace.c.id.in_(numbers))):
                rows[TraceId(row.trace.hex())] = row
        return rows

    def _without_new(
        self, connection: Connection, ids: Sequence[TraceId], calls: Iterable[CallRow]
    ) -> Sequence[TraceId]:
        """The ids but those that are surely not there: where clients bring ids of their own, one of those is the last
        for ever, but what lies between ours of one batch is little, and found in one go."""
        starts = [call[START_NS] // 1_000_000 for call in calls]
        if not starts:
            return ids
        begin, end = f"{min(starts) - MADE_BEFORE_MS:012x}", f"{max(starts) + 1:012x}"
        ours = [id for id in ids if begin <= id < end]
        if not ours:
            return ids
        sql = "select trace from trace where project = ? and trace between ? and ?"
        bounds = (bytearray.fromhex(min(ours)), bytearray.fromhex(max(ours)))
        there = {bytes(one).hex() for one in self.database.raw(connection, sql, (self.project, *bounds)).scalars()}
        return [id for id in ids if id in there or not begin <= id < end]

    def _gone(self, connection: Connection, ids: Iterable[TraceId]) -> set[TraceId]:
        """Traces that were erased: late spans of them are not taken in again."""
        sql = "select 1 from erased where project = ? and kind = 'trace' limit 1"
        if self.database.raw(connection, sql, (self.project,)).first() is None:
            return set()
        found: set[TraceId] = set()
        for some in some_of(ids):
            statement = select(erased.c.id).where(
                erased.c.project == self.project, erased.c.kind == "trace", erased.c.id.in_(some)
            )
            found.update(map(TraceId, connection.execute(statement).scalars()))
        return found

    def _add_fresh(
        self, connection: Connection, incoming: Mapping[TraceId, list[Span]], calls: Sequence[CallRow], tally: Tally
    ) -> int:
        """Traces that are seen for the first time: everything about them is written in one go."""
        if not (incoming or calls):
            return 0
        numbers = self.database.dialect.next_ids(connection, "trace", len(calls) + len(incoming))
        alone = LoneCalls(calls, numbers[: len(calls)], tally)
        arrivals: list[_Fresh] = []
        words = alone.words
        shared = alone.entries
        large: list[tuple[_Fresh, bytes]] = []
        for number, (id, some) in zip(numbers[len(calls) :], incoming.items(), strict=True):
            if len(some) == 1:
                fresh = _Fresh(number, id, some, some[0].subject or None, None)
                entry = entry_of(some)
            else:
                arrival = Arrival(id, _each_once(some), None)
                arrival.inherit()
                fresh = _Fresh(number, id, arrival.spans, arrival.subject, arrival)
                entry = entry_of(fresh.spans)
            arrivals.append(fresh)
            if not entry:
                continue
            found: list[str] = []
            for one in fresh.spans:
                texts_in(one.content, one.error, found)
            words.append((number, found))
            if len(entry) > LARGE_ENTRY:
                large.append((fresh, entry))
            else:
                shared[fresh.subject].append((number, entry))
        self.keys.prepare(connection, {subject or "" for subject in [*shared, *(one.subject for one, _ in large)]})
        placed = self.pages.add(connection, shared)
        previews = {one.number: self._seal_preview(connection, one) for one, _ in large}
        lines: list[tuple[Any, ...]] = []
        rows: list[tuple[Any, ...]] = []
        for number, id, spans, _, arrived in arrivals:
            if arrived is None:
                row = span_row(spans[0], number)
                rows.append(row)
                line = lone_line(spans[0], row)
                count_lone(spans[0], tally)
            else:
                line = _line(arrived.line())
                rows += [span_row(one, number) for one in spans]
                arrived.count(tally)
            lines.append((*line, number, self.project, bytearray.fromhex(id), previews.get(number), placed.get(number)))
        self.database.insert_rows(connection, trace, TRACE, lines)
        self.database.insert_rows(connection, span, SPAN, rows)
        if calls:
            placings = list(map(placed.get, numbers[: len(calls)]))
            self.database.insert_columns(connection, trace, {**alone.lines, "project": self.project, "page": placings})
            self.database.insert_columns(connection, span, alone.rows)
        own = [
            (one.number, self.project, one.subject, self._sealed(connection, entry, one.subject, one.trace))
            for one, entry in large
        ]
        self.database.insert_rows(connection, trace_page, PAGE, own)
        self.words.add(connection, words)
        return len(rows) + len(calls)

    def _seal_preview(self, connection: Connection, fresh: "_Fresh") -> bytes:
        said = [(bytes.fromhex(one.span), one.content) for one in fresh.spans]
        root = next((bytes.fromhex(one.span) for one in fresh.spans if one.parent is None), None)
        shown = first_words(said, root).encode()
        return self.keys.seal(connection, shown, subject=fresh.subject, kind="preview", id=fresh.trace)

    def _add_to(
        self,
        connection: Connection,
        incoming: Mapping[TraceId, list[Span]],
        known: Mapping[TraceId, Row[Any]],
        tally: Tally,
    ) -> int:
        """More spans of traces that are there already: all that is to be written is written together."""
        some = {id: _each_once(incoming[id]) for id in known}
        places = ((row.id, bytes.fromhex(one.span)) for id, row in known.items() for one in some[id])
        there = self._there(connection, places)
        arrivals: list[tuple[Arrival, Row[Any]]] = []
        for id, row in known.items():
            new = some[id]
            if there:
                new = [one for one in new if (row.id, bytes.fromhex(one.span)) not in there]
            if new:
                arrival = Arrival(id, new, row)
                arrival.inherit()
                arrivals.append((arrival, row))
        self.keys.prepare(connection, {arrival.subject or "" for arrival, _ in arrivals})
        lines: list[tuple[Any, ...]] = []
        rows: list[tuple[Any, ...]] = []
        pages: list[tuple[int, str, str | None, bytes]] = []
        words: list[tuple[int, list[str]]] = []
        for arrival, row in arrivals:
            subject, line = arrival.subject, {"preview": row.preview, "page": row.page} | arrival.line()
            adopted = subject != row.subject
            # What a root says that says nothing is what is shown already.
            said = arrival.preview() if adopted or arrival.root is not None else ""
            if said or adopted:
                shown = (said or self.shown(connection, row)).encode()
                line["preview"] = self.keys.seal(connection, shown, subject=subject, kind="preview", id=arrival.id)
            if adopted:
                self._adopt(connection, arrival, row)
                line["page"] = None
            lines.append((*(line[name] if name in line else getattr(row, name) for name in CHANGING), row.id))
            rows += [span_row(one, row.id) for one in arrival.spans]
            entry = entry_of(arrival.spans)
            if entry:
                pages.append((row.id, self.project, subject, self._sealed(connection, entry, subject, arrival.id)))
                found: list[str] = []
                for one in arrival.spans:
                    texts_in(one.content, one.error, found)
                words.append((row.id, found))
            arrival.count(tally)
        self.database.update_rows(connection, trace, CHANGING, lines)
        self.database.insert_rows(connection, span, SPAN, rows)
        self.database.insert_rows(connection, trace_page, PAGE, pages)
        self.words.add(connection, words)
        return len(rows)

    def _there(self, connection: Connection, places: Iterable[tuple[int, bytes]]) -> set[tuple[int, bytes]]:
        """Which of these spans (number of the trace, id) are there already."""
        there: set[tuple[int, bytes]] = set()
        for some in some_of(places):
            sql = there_sql(len(some))
            for row in self.database.raw(connection, sql, list(chain.from_iterable(some))):
                there.add((row.trace_id, bytes(row.span)))
        return there

    def shown(self, connection: Connection, row: Row[Any]) -> str:
        """What the list shows of a trace; empty when its person was erased."""
        if row.preview is not None:
            try:
                return self.keys.open(connection, row.preview, kind="preview", id=row.trace.hex()).decode()
            except ContentErased:
                return ""
        if row.page is None:
            return ""
        said = self.pages.open(connection, {row.page: [row.id]}).get(row.id, [])
        return first_words([(one.span, one.content) for one in said], row.root)

    def _sealed(self, connection: Connection, entry: bytes, subject: str | None, id: str) -> bytes:
        """The body of a page of its own."""
        return self.keys.seal(connection, press(entry), subject=subject, kind="trace", id=id)

    def _adopt(self, connection: Connection, arrival: Arrival, row: Row[Any]) -> None:
        """Seals earlier pages again: the person became known only now."""
        if row.page is not None:
            said = self.pages.open(connection, {row.page: [row.id]}).get(row.id, [])
            self.pages.take_out(connection, {row.page: [row.id]})
            if said:
                body = self._sealed(connection, entry_of_said(said), arrival.subject, arrival.id)
                own = (row.id, self.project, arrival.subject, body)
                self.database.insert_rows(connection, trace_page, PAGE, [own])
        others = select(trace_page).where(trace_page.c.trace_id == row.id, trace_page.c.subject.is_(None))
        for page in connection.execute(others).all():
            body = self.keys.open(connection, page.body, kind="trace", id=arrival.id)
            sealed = self.keys.seal(connection, body, subject=arrival.subject, kind="trace", id=arrival.id)
            connection.execute(
                update(trace_page).where(trace_page.c.id == page.id).values(subject=arrival.subject, body=sealed)
            )


def there_sql(count: int) -> str:
    """The query for those of `count` places (number of the trace, id of the span) where a span is. As a join: for a
    list of pairs SQLite would read the whole table."""
    marks = ", ".join(("(?, ?)",) * count)
    return (
        f"with place(number, id) as (values {marks}) select trace_id, span from place cross join span "
        "where trace_id = number and span = id"
    )


def first_words(said: Sequence[tuple[bytes, Any]], root: bytes | None) -> str:
    """What the list shows of (span, content): what the root says, else the first that says something."""
    contents = [content for span, content in said if span == root] + [content for _, content in said]
    return next((shown for shown in map(preview, contents) if shown), "")


def _each_once(spans: Sequence[Span]) -> list[Span]:
    """The first of each span: senders try again."""
    by_id: dict[str, Span] = {}
    for one in spans:
        by_id.setdefault(one.span, one)
    return list(by_id.values())


def some_of(things: Iterable[Any]) -> Iterable[list[Any]]:
    """Four hundred at a time."""
    everything = list(things)
    for at in range(0, len(everything), AT_ONCE):
        yield everything[at : at + AT_ONCE]
