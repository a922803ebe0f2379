"""Writes spans that arrive: lines, narrow rows, sealed pages, words and roll-ups, in one transaction."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, insert, select, update

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
from slipway.store.call_records import TRACE as TRACE_ID
from slipway.store.call_records import CallRow, span_of
from slipway.store.databases.base import Database
from slipway.store.encryption import Keys
from slipway.store.lone_calls import LARGE_ENTRY, LoneCalls
from slipway.store.rollups import Tally, write_tally
from slipway.store.schema import erased, span, trace, trace_page
from slipway.store.shared_pages import SharedPages
from slipway.store.trace_pages import entry_of, entry_of_said, press, preview, texts_in
from slipway.store.word_index import WordIndex

AT_ONCE = 400
"""A few hundred at a time: every database limits the number of parameters."""
TRACE = (*LINE, "id", "project", "trace", "preview", "page")
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
            known = self._known(connection, [*incoming, *lone])
            for id in lone.keys() & (known.keys() | incoming.keys()):
                incoming[id].append(span_of(lone.pop(id)))
            for id in self._gone(connection, [*incoming, *lone]):
                incoming.pop(id, None)
                lone.pop(id, None)
            tally = Tally()
            fresh = {id: some for id, some in incoming.items() if id not in known} if known else incoming
            new = self._add_fresh(connection, fresh, list(lone.values()), tally)
            for id, found in known.items():
                if id in incoming:
                    new += self._add_to(connection, id, incoming[id], found, tally)
            write_tally(connection, self.database, self.project, tally)
        return new

    def _known(self, connection: Connection, ids: Iterable[TraceId]) -> dict[TraceId, Row[Any]]:
        """Rows of the traces that are there already."""
        there: list[int] = []
        # Ids of our own grow with time: what comes after all that is there is not.
        sql = "select trace from trace where project = ? order by trace desc limit 1"
        newest = self.database.raw(connection, sql, (self.project,)).scalar()
        last = "" if newest is None else bytes(newest).hex()
        for some in some_of(id for id in ids if id <= last):
            marks = ", ".join("?" * len(some))
            sql = f"select id from trace where project = ? and trace in ({marks})"
            there += self.database.raw(connection, sql, (self.project, *map(bytearray.fromhex, some))).scalars()
        rows: dict[TraceId, Row[Any]] = {}
        for numbers in some_of(there):
            for row in connection.execute(select(trace).where(trace.c.id.in_(numbers))):
                rows[TraceId(row.trace.hex())] = row
        return rows

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
        own = [(one.number, self.project, one.subject, self._seal_page(connection, one, entry)) for one, entry in large]
        self.database.insert_rows(connection, trace_page, ("trace_id", "project", "subject", "body"), own)
        self.words.add(connection, words)
        return len(rows) + len(calls)

    def _seal_preview(self, connection: Connection, fresh: "_Fresh") -> bytes:
        said = [(bytes.fromhex(one.span), one.content) for one in fresh.spans]
        root = next((bytes.fromhex(one.span) for one in fresh.spans if one.parent is None), None)
        shown = first_words(said, root).encode()
        return self.keys.seal(connection, shown, subject=fresh.subject, kind="preview", id=fresh.trace)

    def _add_to(self, connection: Connection, id: str, some: Sequence[Span], row: Row[Any], tally: Tally) -> int:
        """More spans of a trace that is there already."""
        there = set(connection.execute(select(span.c.span).where(span.c.trace_id == row.id)).scalars())
        arrival = Arrival(id, [one for one in _each_once(some) if bytes.fromhex(one.span) not in there], row)
        if not arrival.spans:
            return 0
        arrival.inherit()
        line = arrival.line()
        adopted = arrival.subject != row.subject
        if adopted or arrival.root is not None:
            said = arrival.preview() or self.shown(connection, row)
            line["preview"] = self.keys.seal(connection, said.encode(), subject=arrival.subject, kind="preview", id=id)
        if adopted:
            self._adopt(connection, arrival, row)
            line["page"] = None
        connection.execute(update(trace).where(trace.c.id == row.id).values(line))
        self.database.insert_rows(connection, span, SPAN, [span_row(one, row.id) for one in arrival.spans])
        entry = entry_of(arrival.spans)
        if entry:
            self._own_page(connection, row.id, id, arrival.subject, entry)
            found: list[str] = []
            for one in arrival.spans:
                texts_in(one.content, one.error, found)
            self.words.add(connection, [(row.id, found)])
        arrival.count(tally)
        return len(arrival.spans)

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

    def _seal_page(self, connection: Connection, fresh: _Fresh, entry: bytes) -> bytes:
        return self.keys.seal(connection, press(entry), subject=fresh.subject, kind="trace", id=fresh.trace)

    def _own_page(self, connection: Connection, number: int, id: str, subject: str | None, entry: bytes) -> None:
        body = self.keys.seal(connection, press(entry), subject=subject, kind="trace", id=id)
        connection.execute(insert(trace_page).values(trace_id=number, project=self.project, subject=subject, body=body))

    def _adopt(self, connection: Connection, arrival: Arrival, row: Row[Any]) -> None:
        """Seals earlier pages again: the person became known only now."""
        if row.page is not None:
            said = self.pages.open(connection, {row.page: [row.id]}).get(row.id, [])
            self.pages.take_out(connection, {row.page: [row.id]})
            if said:
                self._own_page(connection, row.id, arrival.id, arrival.subject, entry_of_said(said))
        others = select(trace_page).where(trace_page.c.trace_id == row.id, trace_page.c.subject.is_(None))
        for page in connection.execute(others).all():
            body = self.keys.open(connection, page.body, kind="trace", id=arrival.id)
            sealed = self.keys.seal(connection, body, subject=arrival.subject, kind="trace", id=arrival.id)
            connection.execute(
                update(trace_page).where(trace_page.c.id == page.id).values(subject=arrival.subject, body=sealed)
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
