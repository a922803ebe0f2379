"""Calls of models with what was asked, newest first, over many traces: for numbers that only content tells."""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import ColumnElement, Row, func, select

from slipway.domain.ids import TraceId
from slipway.store.schema import span, trace

if TYPE_CHECKING:
    from slipway.store.traces import Traces

AT_ONCE = 1000


class Call(NamedTuple):
    """A call that did not fail; `content` is empty where nothing was recorded or the person was erased."""

    trace: TraceId
    release: str
    subject: str | None
    model: str
    prompt: str
    input_tokens: int
    output_tokens: int
    cost_micros: int
    content: Mapping[str, Any]


def read_calls(
    traces: "Traces", *, since: datetime, until: datetime, without: Collection[str], most: int
) -> Iterator[Call]:
    """At most `most` calls of models that did not fail, without those on the channels in `without`.

    They come in the reverse order of their arrival, which is close to that of their time and quick to go on from.
    """
    where = _where(traces.project, since, until, without)
    seen = 0
    before: int | None = None
    with traces.database.reading() as connection:
        while seen < most:
            place = where if before is None else [*where, trace.c.id < before]
            rows = connection.execute(select(trace).where(*place).order_by(trace.c.id.desc()).limit(AT_ONCE)).all()
            if not rows:
                return
            before = rows[-1].id
            steps: dict[int, list[Row[Any]]] = {row.id: [] for row in rows}
            for step in connection.execute(select(span).where(span.c.trace_id.in_(steps), _answered())):
                steps[step.trace_id].append(step)
            said = traces.said_in(connection, rows)
            for row in rows:
                told = {one.span: one.content for one in said[row.id]}
                for step in steps[row.id]:
                    # The gateway's own line is request and call in one.
                    if step.kind == "chat" if row.model_spans else step.span == row.root:
                        if seen == most:
                            return
                        seen += 1
                        yield _call(row, step, told.get(step.span, {}))


def count_calls(traces: "Traces", *, since: datetime, until: datetime, without: Collection[str]) -> int:
    """How many calls `read_calls` would give without an end."""
    own = (trace.c.model_spans > 0) & (span.c.kind == "chat") | (trace.c.model_spans == 0) & (
        span.c.span == trace.c.root
    )
    statement = (
        select(func.count())
        .select_from(span)
        .join(trace, trace.c.id == span.c.trace_id)
        .where(*_where(traces.project, since, until, without), _answered(), own)
    )
    with traces.database.reading() as connection:
        return int(connection.execute(statement).scalar_one())


def _call(row: Row[Any], step: Row[Any], content: Mapping[str, Any]) -> Call:
    return Call(
        trace=TraceId(row.trace.hex()),
        release=row.release,
        subject=row.subject,
        model=step.model,
        prompt=step.prompt,
        input_tokens=step.input_tokens,
        output_tokens=step.output_tokens,
        cost_micros=step.cost_micros,
        content=content,
    )


def _where(project: str, since: datetime, until: datetime, without: Collection[str]) -> list[ColumnElement[bool]]:
    return [
        trace.c.project == project,
        trace.c.started_ns >= int(since.timestamp() * 1e9),
        trace.c.started_ns < int(until.timestamp() * 1e9),
        trace.c.channel.not_in(sorted(without)),
    ]


def _answered() -> ColumnElement[bool]:
    return span.c.kind.in_(["chat", "request"]) & span.c.status.in_(["ok", "unset", "abstained"])
