"""Log records of spans: held until their span comes, or put into what a stored span says."""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, select, update

from slipway.domain.trace import Span, SpanEvent
from slipway.store.databases.base import Database
from slipway.store.encryption import Keys
from slipway.store.schema import erased, span, trace, waiting_event
from slipway.store.trace_pages import Said, plain
from slipway.store.traces import Traces

Place = tuple[str, str]
"""Trace and span."""
Join = Callable[[Span, Sequence[SpanEvent]], Span]
AT_ONCE = 400
LONGEST_WAIT_S = 24 * 3600
_TRACE = re.compile("[0-9a-f]{32}")


class SpanEvents:
    """The log records of one project's spans."""

    def __init__(self, database: Database, project: str, keys: Keys, traces: Traces) -> None:
        self.database, self.project, self.keys, self.traces = database, project, keys, traces

    def hold(self, events: Mapping[Place, Sequence[SpanEvent]]) -> int:
        """Keeps records of spans that are not there yet, sealed; returns how many. Erased traces take no more."""
        if not events:
            return 0
        now = time.time_ns() // 1000
        with self.database.joining() as connection:
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

    def any_wait(self) -> bool:
        """Whether records of any span wait. It holds off those that would come to wait until the transaction ends."""
        with self.database.joining() as connection:
            # Before looking: nobody may hold records back for a span that is just being stored.
            self.database.dialect.lock_project(connection, self.project)
            where = waiting_event.c.project == self.project
            return connection.execute(select(waiting_event.c.id).where(where).limit(1)).first() is not None

    def claim(self, places: Iterable[Place]) -> dict[Place, list[SpanEvent]]:
        """Hands over what waits for these spans, and holds it no longer."""
        wanted = {place for place in places if _TRACE.fullmatch(place[0])}
        found: dict[Place, list[SpanEvent]] = {}
        done: list[int] = []
        with self.database.joining() as connection:
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
        by_trace: dict[str, dict[bytes, Sequence[SpanEvent]]] = {}
        for place, some in events.items():
            by_trace.setdefault(place[0], {})[bytes.fromhex(place[1])] = some
        attached: set[Place] = set()
        with self.database.joining() as connection:
            self.database.dialect.lock_project(connection, self.project)
            for id, records in by_trace.items():
                stored = connection.execute(
                    select(span)
                    .join(trace, trace.c.id == span.c.trace_id)
                    .where(
                        trace.c.project == self.project,
                        trace.c.trace == bytes.fromhex(id),
                        span.c.span.in_(list(records)),
                    )
                ).all()
                if stored:
                    self.traces.amend(id, lambda said: self._joined(connection, said, stored, records, join))  # noqa: B023
                attached |= {(id, row.span.hex()) for row in stored}
        return attached

    def forget(self, *, before_us: int | None = None) -> int:
        """Drops what waited for longer than a day, or since before a moment; returns how many rows."""
        limit = time.time_ns() // 1000 - LONGEST_WAIT_S * 1_000_000 if before_us is None else before_us
        with self.database.joining() as connection:
            where = (waiting_event.c.project == self.project, waiting_event.c.arrived_us < limit)
            return connection.execute(delete(waiting_event).where(*where)).rowcount

    def _joined(
        self,
        connection: Connection,
        said: Sequence[Said],
        stored: Sequence[Row[Any]],
        records: Mapping[bytes, Sequence[SpanEvent]],
        join: Join,
    ) -> list[Said]:
        """What all spans of a trace say, with these records."""
        told = {one.span: one for one in said}
        for row in stored:
            one = told.get(row.span, Said(row.span, "", {}))
            before = _span_of(row, one, records[row.span][0])
            after = join(before, records[row.span])
            if after.content != before.content:
                told[row.span] = Said(row.span, one.error, dict(after.content))
            if after.finish != before.finish:
                # Everything else is in the roll-ups already and stays as it was counted.
                where = (span.c.trace_id == row.trace_id, span.c.span == row.span)
                connection.execute(update(span).where(*where).values(finish=after.finish[:500]))
        return list(told.values())

    def _gone(self, connection: Connection, ids: Iterable[str]) -> set[str]:
        found: set[str] = set()
        for some in _some(sorted(ids)):
            statement = select(erased.c.id).where(
                erased.c.project == self.project, erased.c.kind == "trace", erased.c.id.in_(some)
            )
            found.update(connection.execute(statement).scalars())
        return found


def _span_of(row: Row[Any], said: Said, record: SpanEvent) -> Span:
    return Span(
        trace=record.trace,
        span=record.span,
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
