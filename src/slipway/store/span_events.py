"""Log records of spans: held until their span comes, or put into what a stored span says."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, select, update

from slipway.domain.errors import ContentErased
from slipway.domain.trace import Span, SpanEvent
from slipway.store.databases.base import Database
from slipway.store.encryption import Keys
from slipway.store.schema import erased, span, trace, trace_page, waiting_event
from slipway.store.trace_pages import WORDS_VERSION, Said, pack_said, plain, preview, unpack, words_in
from slipway.store.words import index_line

Place = tuple[str, str]
"""Trace and span."""
Join = Callable[[Span, Sequence[SpanEvent]], Span]
AT_ONCE = 400
LONGEST_WAIT_S = 24 * 3600


class SpanEvents:
    """The log records of one project's spans."""

    def __init__(self, database: Database, project: str, keys: Keys) -> None:
        self.database, self.project, self.keys = database, project, keys

    def hold(self, events: Mapping[Place, Sequence[SpanEvent]]) -> int:
        """Keeps records of spans that are not there yet, sealed; returns how many. Erased traces take no more."""
        if not events:
            return 0
        now = time.time_ns() // 1000
        with self.database.transaction() as connection:
            gone = self._gone(connection, {place[0] for place in events})
            rows = [
                {
                    "project": self.project,
                    "trace": bytes.fromhex(place[0]),
                    "span": bytes.fromhex(place[1]),
                    "arrived_us": now,
                    "body": self.keys.seal(connection, _packed(some), subject=None, kind="event", id=place[0]),
                }
                for place, some in events.items()
                if place[0] not in gone
            ]
            if rows:
                connection.execute(waiting_event.insert(), rows)
        return sum(len(some) for place, some in events.items() if place[0] not in gone)

    def claim(self, places: Iterable[Place]) -> dict[Place, list[SpanEvent]]:
        """Hands over what waits for these spans, and holds it no longer."""
        wanted = set(places)
        found: dict[Place, list[SpanEvent]] = {}
        done: list[int] = []
        with self.database.transaction() as connection:
            # Before looking: nobody may hold records back for a span that is just being stored.
            self.database.dialect.lock_project(connection, self.project)
            for some in _some(sorted({place[0] for place in wanted})):
                rows = connection.execute(
                    select(waiting_event)
                    .where(
                        waiting_event.c.project == self.project,
                        waiting_event.c.trace.in_([bytes.fromhex(id) for id in some]),
                    )
                    .order_by(waiting_event.c.id)
                ).all()
                for row in rows:
                    place = (row.trace.hex(), row.span.hex())
                    if place in wanted:
                        body = self.keys.open(connection, row.body, kind="event", id=place[0])
                        found.setdefault(place, []).extend(msgspec.msgpack.decode(body, type=list[SpanEvent]))
                        done.append(row.id)
            for numbers in _some(done):
                connection.execute(delete(waiting_event).where(waiting_event.c.id.in_(numbers)))
        return found

    def attach(self, events: Mapping[Place, Sequence[SpanEvent]], *, join: Join) -> set[Place]:
        """Puts records into what stored spans say, with words and preview; returns the spans that were there."""
        by_trace: dict[str, dict[str, Sequence[SpanEvent]]] = {}
        for place, some in events.items():
            by_trace.setdefault(place[0], {})[place[1]] = some
        attached: set[Place] = set()
        with self.database.transaction() as connection:
            self.database.dialect.lock_project(connection, self.project)
            for ids in _some(by_trace):
                rows = connection.execute(
                    select(trace).where(
                        trace.c.project == self.project, trace.c.trace.in_([bytes.fromhex(id) for id in ids])
                    )
                ).all()
                for row in rows:
                    id = row.trace.hex()
                    attached |= {(id, one) for one in self._attach(connection, row, by_trace[id], join)}
        return attached

    def forget(self, *, before_us: int | None = None) -> int:
        """Drops what waited for longer than a day, or since before a moment; returns how many rows."""
        limit = time.time_ns() // 1000 - LONGEST_WAIT_S * 1_000_000 if before_us is None else before_us
        with self.database.transaction() as connection:
            where = (waiting_event.c.project == self.project, waiting_event.c.arrived_us < limit)
            return connection.execute(delete(waiting_event).where(*where)).rowcount

    def _attach(
        self, connection: Connection, row: Row[Any], records: Mapping[str, Sequence[SpanEvent]], join: Join
    ) -> list[str]:
        """Spans of one trace that took their records."""
        stored = {
            one.span: one
            for one in connection.execute(
                select(span).where(span.c.trace_id == row.id, span.c.span.in_([bytes.fromhex(id) for id in records]))
            )
        }
        if not stored:
            return []
        id = row.trace.hex()
        missing = set(stored)
        shown = None
        for page in connection.execute(select(trace_page).where(trace_page.c.trace_id == row.id)).all():
            try:
                said = unpack(self.keys.open(connection, page.body, kind="trace", id=id))
            except ContentErased:
                return [one.hex() for one in stored]
            mine = missing & said.keys()
            if not mine:
                continue
            missing -= mine
            after = dict(said)
            for one in mine:
                after[one] = self._joined(connection, id, stored[one], said[one], records[one.hex()], join)
            if after == said:
                continue
            dialect = self.database.dialect
            if page.indexed == WORDS_VERSION:
                dialect.forget_words(connection, [(page.id, index_line(words_in(list(said.values()))))])
                dialect.index_words(connection, [(page.id, index_line(words_in(list(after.values()))))])
            connection.execute(
                update(trace_page)
                .where(trace_page.c.id == page.id)
                .values(body=self._sealed(connection, row, list(after.values())))
            )
            shown = shown or next((text for one in mine if (text := preview(after[one].content))), None)
        if missing:
            # Spans that said nothing until now have no page.
            fresh = [
                self._joined(connection, id, stored[one], Said(one, "", {}), records[one.hex()], join)
                for one in sorted(missing)
            ]
            (number,) = self.database.dialect.next_ids(connection, "trace_page", 1)
            connection.execute(
                trace_page.insert().values(
                    id=number,
                    trace_id=row.id,
                    project=self.project,
                    subject=row.subject,
                    indexed=WORDS_VERSION,
                    body=self._sealed(connection, row, fresh),
                )
            )
            self.database.dialect.index_words(connection, [(number, index_line(words_in(fresh)))])
            shown = shown or next((text for one in fresh if (text := preview(one.content))), None)
        if shown and not self._preview(connection, row):
            sealed = self.keys.seal(connection, shown.encode(), subject=row.subject, kind="preview", id=id)
            connection.execute(update(trace).where(trace.c.id == row.id).values(preview=sealed))
        return [one.hex() for one in stored]

    def _joined(
        self, connection: Connection, id: str, row: Row[Any], said: Said, records: Sequence[SpanEvent], join: Join
    ) -> Said:
        before = Span(
            trace=records[0].trace,
            span=records[0].span,
            name=row.name,
            start_ns=row.start_ns,
            end_ns=row.start_ns + row.duration_ns,
            provider=row.provider,
            model=row.model,
            response_model=row.response_model,
            input_tokens=row.input_tokens,
            output_tokens=row.output_tokens,
            cached_tokens=row.cached_tokens,
            finish=row.finish,
            content=said.content,
        )
        after = join(before, records)
        if after.finish != before.finish:
            # Everything else is in the roll-ups already and stays as it was counted.
            where = (span.c.trace_id == row.trace_id, span.c.span == row.span)
            connection.execute(update(span).where(*where).values(finish=after.finish[:500]))
        return Said(said.span, said.error, dict(after.content))

    def _sealed(self, connection: Connection, row: Row[Any], said: Sequence[Said]) -> bytes:
        return self.keys.seal(connection, pack_said(said), subject=row.subject, kind="trace", id=row.trace.hex())

    def _preview(self, connection: Connection, row: Row[Any]) -> str:
        try:
            return self.keys.open(connection, row.preview, kind="preview", id=row.trace.hex()).decode()
        except ContentErased:
            return ""

    def _gone(self, connection: Connection, ids: Iterable[str]) -> set[str]:
        found: set[str] = set()
        for some in _some(sorted(ids)):
            statement = select(erased.c.id).where(
                erased.c.project == self.project, erased.c.kind == "trace", erased.c.id.in_(some)
            )
            found.update(connection.execute(statement).scalars())
        return found


def _packed(events: Sequence[SpanEvent]) -> bytes:
    try:
        return msgspec.msgpack.encode(events, enc_hook=str)
    except (OverflowError, TypeError, ValueError):
        told = [{name: getattr(one, name) for name in SpanEvent.__slots__} for one in events]
        return msgspec.msgpack.encode(plain(told))


def _some(things: Iterable[Any]) -> Iterable[list[Any]]:
    everything = list(things)
    for at in range(0, len(everything), AT_ONCE):
        yield everything[at : at + AT_ONCE]
