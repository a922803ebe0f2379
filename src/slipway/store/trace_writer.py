"""Writes spans that arrive: lines, narrow rows, sealed pages, words and roll-ups, in one transaction."""

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Row, Table, select, update

from slipway.domain.errors import ContentErased
from slipway.domain.trace import Span
from slipway.store.arrivals import Arrival, clean, encode_verdicts
from slipway.store.databases.base import Database
from slipway.store.encryption import Keys
from slipway.store.rollups import Tally, write_tally
from slipway.store.schema import erased, span, trace, trace_page
from slipway.store.trace_pages import WORDS_VERSION, pack, unpack, words_in
from slipway.store.words import index_line

AT_ONCE = 400
"""A few hundred at a time: every database limits the number of parameters."""


class TraceWriter:
    """Takes in the spans of one project."""

    def __init__(self, database: Database, project: str, keys: Keys) -> None:
        self.database, self.project, self.keys = database, project, keys

    def add(self, spans: Sequence[Span]) -> int:
        """Stores spans with their content, words and roll-ups in one transaction; returns how many were new.

        Spans that are there already (same trace and span) change nothing. Spans of one trace may come in any order and
        in many batches; what the root knows (release, channel, session, environment, person) counts for all of them.
        """
        if not spans:
            return 0
        incoming: dict[str, dict[str, Span]] = {}
        for one in filter(None, map(clean, spans)):
            incoming.setdefault(one.trace, {}).setdefault(one.span, one)
        with self.database.transaction() as connection:
            self.database.dialect.lock_project(connection, self.project)
            known = self._known(connection, incoming)
            gone = self._gone(connection, incoming)
            batch = [
                Arrival(id, [one for one in members.values() if bytes.fromhex(one.span) not in seen], row)
                for id, members in incoming.items()
                if id not in gone
                for row, seen in [known.get(id, (None, frozenset()))]
            ]
            batch = [arrival for arrival in batch if arrival.spans]
            if not batch:
                return 0
            self._write_traces(connection, batch)
            self._write_spans(connection, batch)
            self._write_pages(connection, batch)
            tally = Tally()
            for arrival in batch:
                arrival.count(tally)
            write_tally(connection, self.database, self.project, tally)
        return sum(len(arrival.spans) for arrival in batch)

    def _known(self, connection: Connection, ids: Iterable[str]) -> dict[str, tuple[Row[Any], frozenset[bytes]]]:
        """Rows of the traces that are there already, with the spans they have."""
        rows: dict[str, Row[Any]] = {}
        for some in some_of(ids):
            statement = select(trace).where(
                trace.c.project == self.project, trace.c.trace.in_([bytes.fromhex(id) for id in some])
            )
            rows |= {row.trace.hex(): row for row in connection.execute(statement)}
        spans: dict[int, set[bytes]] = {row.id: set() for row in rows.values()}
        for some_ids in some_of(spans):
            for row in connection.execute(select(span.c.trace_id, span.c.span).where(span.c.trace_id.in_(some_ids))):
                spans[row.trace_id].add(row.span)
        return {id: (row, frozenset(spans[row.id])) for id, row in rows.items()}

    def _gone(self, connection: Connection, ids: Iterable[str]) -> set[str]:
        """Traces that were erased: late spans of them are not taken in again."""
        found: set[str] = set()
        for some in some_of(ids):
            statement = select(erased.c.id).where(
                erased.c.project == self.project, erased.c.kind == "trace", erased.c.id.in_(some)
            )
            found.update(connection.execute(statement).scalars())
        return found

    def _write_traces(self, connection: Connection, batch: Sequence[Arrival]) -> None:
        fresh = []
        for arrival in batch:
            arrival.inherit()
            line = arrival.line()
            if arrival.row is None:
                line["preview"] = self._seal_preview(connection, arrival, arrival.preview())
                fresh.append({"project": self.project, "trace": bytes.fromhex(arrival.id), **line})
                continue
            adopted = arrival.subject != arrival.row.subject
            if adopted:
                self._adopt(connection, arrival, arrival.row.id)
            if adopted or arrival.root is not None:
                said = arrival.preview() or open_preview(connection, self.keys, arrival.row)
                line["preview"] = self._seal_preview(connection, arrival, said)
            arrival.number = arrival.row.id
            connection.execute(update(trace).where(trace.c.id == arrival.number).values(line))
        if fresh:
            numbers = self.database.dialect.next_ids(connection, "trace", len(fresh))
            new = (arrival for arrival in batch if arrival.row is None)
            for row, arrival, number in zip(fresh, new, numbers, strict=True):
                row["id"] = arrival.number = number
            _insert(connection, trace, fresh)

    def _seal_preview(self, connection: Connection, arrival: Arrival, said: str) -> bytes:
        return self.keys.seal(connection, said.encode(), subject=arrival.subject, kind="preview", id=arrival.id)

    def _adopt(self, connection: Connection, arrival: Arrival, number: int) -> None:
        """Seals earlier pages again: the person became known only now."""
        rows = connection.execute(select(trace_page).where(trace_page.c.trace_id == number)).all()
        for row in rows:
            body = self.keys.open(connection, row.body, kind="trace", id=arrival.id)
            connection.execute(
                update(trace_page)
                .where(trace_page.c.id == row.id)
                .values(
                    subject=arrival.subject,
                    body=self.keys.seal(connection, body, subject=arrival.subject, kind="trace", id=arrival.id),
                )
            )

    def _write_spans(self, connection: Connection, batch: Sequence[Arrival]) -> None:
        rows = [
            {
                "trace_id": arrival.number,
                "span": bytes.fromhex(one.span),
                "parent": bytes.fromhex(one.parent) if one.parent else None,
                "name": one.name,
                "kind": one.kind,
                "start_ns": one.start_ns,
                "duration_ns": one.end_ns - one.start_ns,
                "status": one.status,
                "provider": one.provider,
                "model": one.model,
                "response_model": one.response_model,
                "prompt": one.prompt,
                "knowledge": one.index,
                "input_tokens": one.input_tokens,
                "output_tokens": one.output_tokens,
                "cached_tokens": one.cached_tokens,
                "reasoning_tokens": one.reasoning_tokens,
                "usage_estimated": one.usage_estimated,
                "cost_micros": one.cost_micros,
                "first_token_ns": one.first_token_ns,
                "finish": one.finish,
                "verdicts": encode_verdicts(one.verdicts),
            }
            for arrival in batch
            for one in arrival.spans
        ]
        _insert(connection, span, rows)

    def _write_pages(self, connection: Connection, batch: Sequence[Arrival]) -> None:
        pages, lines = [], []
        for arrival in batch:
            packed = pack(arrival.spans)
            if not packed:
                continue
            pages.append(
                {
                    "trace_id": arrival.number,
                    "project": self.project,
                    "subject": arrival.subject,
                    "indexed": WORDS_VERSION,
                    "body": self.keys.seal(connection, packed, subject=arrival.subject, kind="trace", id=arrival.id),
                }
            )
            lines.append(index_line(words_in(list(unpack(packed).values()))))
        if not pages:
            return
        numbers = self.database.dialect.next_ids(connection, "trace_page", len(pages))
        for page, number in zip(pages, numbers, strict=True):
            page["id"] = number
        _insert(connection, trace_page, pages)
        self.database.dialect.index_words(connection, list(zip(numbers, lines, strict=True)))


def _insert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of the same columns as plain tuples: to prepare parameters one by one would cost more than the insert."""
    columns = list(rows[0])
    place = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    statement = "insert into {} ({}) values ({})".format(
        table.name, ", ".join(f'"{column}"' for column in columns), ", ".join([place] * len(columns))
    )
    connection.exec_driver_sql(statement, list(map(itemgetter(*columns), rows)))


def open_preview(connection: Connection, keys: Keys, row: Row[Any]) -> str:
    """What the list shows of a trace; empty when its person was erased."""
    try:
        return keys.open(connection, row.preview, kind="preview", id=row.trace.hex()).decode()
    except ContentErased:
        return ""


def some_of(things: Iterable[Any]) -> Iterable[list[Any]]:
    """Four hundred at a time."""
    everything = list(things)
    for at in range(0, len(everything), AT_ONCE):
        yield everything[at : at + AT_ONCE]
