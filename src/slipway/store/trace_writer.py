"""Writes spans that arrive: lines, narrow rows, sealed pages, words and roll-ups, in one transaction."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from slipway.domain.errors import ContentErased
from slipway.domain.trace import Span
from slipway.store.arrivals import LINE, SPAN, Arrival, clean, count_lone, lone_line, span_row
from slipway.store.databases.base import Database
from slipway.store.encryption import Keys
from slipway.store.rollups import Tally, write_tally
from slipway.store.schema import erased, span, trace, trace_page
from slipway.store.shared_pages import MOST_BYTES, Entry, SharedPages
from slipway.store.trace_pages import entry_of, entry_of_said, press, preview, words_in
from slipway.store.word_index import WordIndex

AT_ONCE = 400
"""A few hundred at a time: every database limits the number of parameters."""
LARGE_ENTRY = MOST_BYTES // 4
"""Bytes that a trace may say in a page that it shares; more gets a page of its own."""
TRACE = ("id", "project", "trace", *LINE, "preview", "page")
_line = itemgetter(*LINE)


class TraceWriter:
    """Takes in the spans of one project."""

    def __init__(self, database: Database, project: str, keys: Keys, pages: SharedPages, words: WordIndex) -> None:
        self.database, self.project, self.keys = database, project, keys
        self.pages, self.words = pages, words

    def add(self, spans: Sequence[Span]) -> int:
        """Stores spans with their content, words and roll-ups in one transaction; returns how many were new.

        Spans that are there already (same trace and span) change nothing. Spans of one trace may come in any order and
        in many batches; what the root knows (release, channel, session, environment, person) counts for all of them.
        """
        incoming: defaultdict[str, list[Span]] = defaultdict(list)
        for one in filter(None, map(clean, spans)):
            incoming[one.trace].append(one)
        if not incoming:
            return 0
        with self.database.transaction() as connection:
            self.database.dialect.lock_project(connection, self.project)
            known = self._known(connection, incoming)
            for id in self._gone(connection, incoming):
                del incoming[id]
            tally = Tally()
            new = self._add_fresh(connection, {id: some for id, some in incoming.items() if id not in known}, tally)
            for id, found in known.items():
                if id in incoming:
                    new += self._add_to(connection, id, incoming[id], found, tally)
            write_tally(connection, self.database, self.project, tally)
        return new

    def _known(self, connection: Connection, ids: Iterable[str]) -> dict[str, Row[Any]]:
        """Rows of the traces that are there already."""
        mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
        there: list[int] = []
        for some in some_of(ids):
            # Raw: to compile a list of hundreds of values costs more than to look them up.
            marks = ", ".join([mark] * len(some))
            statement = f"select id from trace where project = {mark} and trace in ({marks})"
            found = connection.exec_driver_sql(statement, (self.project, *map(bytes.fromhex, some)))
            there += found.scalars()
        rows: dict[str, Row[Any]] = {}
        for numbers in some_of(there):
            for row in connection.execute(select(trace).where(trace.c.id.in_(numbers))):
                rows[row.trace.hex()] = row
        return rows

    def _gone(self, connection: Connection, ids: Iterable[str]) -> set[str]:
        """Traces that were erased: late spans of them are not taken in again."""
        any_gone = select(erased.c.id).where(erased.c.project == self.project, erased.c.kind == "trace").limit(1)
        if connection.execute(any_gone).first() is None:
            return set()
        found: set[str] = set()
        for some in some_of(ids):
            statement = select(erased.c.id).where(
                erased.c.project == self.project, erased.c.kind == "trace", erased.c.id.in_(some)
            )
            found.update(connection.execute(statement).scalars())
        return found

    def _add_fresh(self, connection: Connection, incoming: dict[str, list[Span]], tally: Tally) -> int:
        """Traces that are seen for the first time: everything about them is written in one go."""
        if not incoming:
            return 0
        numbers = self.database.dialect.next_ids(connection, "trace", len(incoming))
        lines: list[tuple[Any, ...]] = []
        rows: list[tuple[Any, ...]] = []
        words: list[tuple[int, bytes]] = []
        shared: defaultdict[str | None, list[Entry]] = defaultdict(list)
        large: list[tuple[int, str, str | None, bytes, str]] = []
        for number, (id, some) in zip(numbers, incoming.items(), strict=True):
            if len(some) == 1:
                spans, subject, said = some, some[0].subject or None, ""
                line = lone_line(some[0])
                count_lone(some[0], tally)
            else:
                arrival = Arrival(id, _each_once(some), None)
                arrival.inherit()
                arrival.count(tally)
                spans, subject, said = arrival.spans, arrival.subject, ""
                line = _line(arrival.line())
            for one in spans:
                rows.append(span_row(one, number))
            entry = entry_of(spans)
            if len(entry) > LARGE_ENTRY:
                said = said or _preview(spans, line[0])
                large.append((number, id, subject, entry, said))
            elif entry:
                shared[subject].append(Entry(number, entry))
            if entry:
                words.append((number, words_in([one.content for one in spans], [one.error for one in spans])))
            lines.append((number, self.project, bytes.fromhex(id), *line))
        self.keys.prepare(connection, {subject or "" for subject in [*shared, *(one[2] for one in large)]})
        placed = self.pages.add(connection, shared)
        previews = {
            number: self.keys.seal(connection, said.encode(), subject=subject, kind="preview", id=id)
            for number, id, subject, _, said in large
        }
        self.database.insert_rows(
            connection, trace, TRACE, [(*line, previews.get(line[0]), placed.get(line[0])) for line in lines]
        )
        self.database.insert_rows(connection, span, SPAN, rows)
        for number, id, subject, entry, _ in large:
            self._own_page(connection, number, id, subject, entry)
        self.words.add(connection, words)
        return len(rows)

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
            line["preview"] = self.keys.seal(
                connection, said.encode(), subject=arrival.subject, kind="preview", id=id
            )
        if adopted:
            self._adopt(connection, arrival, row)
            line["page"] = None
        connection.execute(update(trace).where(trace.c.id == row.id).values(line))
        self.database.insert_rows(connection, span, SPAN, [span_row(one, row.id) for one in arrival.spans])
        entry = entry_of(arrival.spans)
        if entry:
            self._own_page(connection, row.id, id, arrival.subject, entry)
            contents, errors = [one.content for one in arrival.spans], [one.error for one in arrival.spans]
            self.words.add(connection, [(row.id, words_in(contents, errors))])
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

    def _own_page(self, connection: Connection, number: int, id: str, subject: str | None, entry: bytes) -> None:
        body = self.keys.seal(connection, press(entry), subject=subject, kind="trace", id=id)
        connection.execute(
            insert(trace_page).values(trace_id=number, project=self.project, subject=subject, body=body)
        )

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


def _preview(spans: Sequence[Span], root: bytes | None) -> str:
    return first_words([(bytes.fromhex(one.span), one.content) for one in spans], root)


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
