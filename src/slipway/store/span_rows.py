"""Spans as rows of a table, with what the whole trace knows: for exports, a few thousand at a time."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import Row, select

from slipway.store.arrivals import SPAN
from slipway.store.schema import span, trace
from slipway.store.traces import Traces

AT_ONCE = 1000
OF_TRACE = ("trace", "release", "channel", "environment", "session", "subject")
OF_SPAN = SPAN[1:]


class SpanRow(NamedTuple):
    """Columns `OF_TRACE` and `OF_SPAN` of one span, and what it says; None where content is not asked for or erased."""

    columns: tuple[Any, ...]
    content: dict[str, Any] | None


def span_rows(traces: Traces, *, begin_ns: int, end_ns: int, content: bool) -> Iterator[list[SpanRow]]:
    """The spans of all traces that started from `begin_ns` up to `end_ns`, of a thousand traces at a time."""
    at = (begin_ns, 0)
    while True:
        with traces.database.reading() as connection:
            lines = connection.execute(
                select(trace)
                .where(trace.c.project == traces.project, trace.c.started_ns >= at[0], trace.c.started_ns < end_ns)
                .where((trace.c.started_ns > at[0]) | (trace.c.id > at[1]))
                .order_by(trace.c.started_ns, trace.c.id)
                .limit(AT_ONCE)
            ).all()
            if not lines:
                return
            at = (lines[-1].started_ns, lines[-1].id)
            said = traces.said_in(connection, lines) if content else {}
            by_number: dict[int, Row[Any]] = {line.id: line for line in lines}
            statement = select(span).where(span.c.trace_id.in_(by_number)).order_by(span.c.trace_id, span.c.start_ns)
            rows = []
            for one in connection.execute(statement):
                line = by_number[one.trace_id]
                told = {inner.span: inner.content for inner in said.get(line.id, ())}
                columns = tuple(getattr(line, name) for name in OF_TRACE) + tuple(
                    getattr(one, name) for name in OF_SPAN
                )
                rows.append(SpanRow(columns, told.get(one.span)))
        yield rows
