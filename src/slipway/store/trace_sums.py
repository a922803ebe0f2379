"""Sums over many traces that roll-ups do not keep: by session, person and operation; and each request's size."""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, case, func, select, true, tuple_

from slipway.domain.errors import NotFound
from slipway.domain.expense import Operation, TraceGroup
from slipway.store.rollups import MODEL_KINDS
from slipway.store.schema import span, trace
from slipway.store.trace_query import LATENCY

if TYPE_CHECKING:
    from slipway.store.traces import Traces

GroupedBy = Literal["session", "subject", "model", "release", "channel", "name"]
Order = Literal["newest", "dearest"]


class GroupPage(NamedTuple):
    """Groups in their order. `next` continues after the last one; None at the end."""

    rows: tuple[TraceGroup, ...]
    next: str | None


class Arrived(NamedTuple):
    """A request as a load test would send it."""

    at: datetime
    input_tokens: int
    output_tokens: int


def read_groups(
    traces: "Traces",
    *,
    by: GroupedBy,
    since: datetime | None = None,
    until: datetime | None = None,
    query: str = "",
    without: Collection[str] = (),
    order: Order = "newest",
    limit: int = 50,
    after: str | None = None,
) -> GroupPage:
    """Traces grouped by a column, those without a value left out, except for models and releases.

    `without` names channels that do not count; `query` is a filter over the traces. Raises `QueryInvalid`.
    """
    column = trace.c[by]
    last, spent = func.max(trace.c.started_ns), func.sum(trace.c.cost_micros)
    statement: Select[Any] = (
        select(
            column.label("key"),
            func.count().label("traces"),
            func.sum(case((trace.c.status == "error", 1), else_=0)).label("errors"),
            func.min(trace.c.started_ns).label("first_ns"),
            last.label("last_ns"),
            func.sum(trace.c.input_tokens).label("input_tokens"),
            func.sum(trace.c.output_tokens).label("output_tokens"),
            spent.label("cost_micros"),
            func.sum(LATENCY).label("took_ns"),
        )
        .where(*_where(traces, since, until, without))
        .group_by(column)
        .limit(limit + 1)
    )
    if by in ("session", "subject"):
        statement = statement.where(column.is_not(None), column != "")
    measure = last if order == "newest" else spent
    if after is not None:
        number, _, key = after.partition("-")
        if not number.isdigit():
            raise NotFound("page of groups", after, next_step="Begin again without it.")
        statement = statement.having(tuple_(measure, column) < tuple_(int(number), key))
    statement = statement.order_by(measure.desc(), column.desc())
    with traces.database.reading() as connection:
        rows = connection.execute(statement.where(traces.meeting(connection, query))).all()
    shown = tuple(
        TraceGroup(
            key=row.key or "",
            traces=row.traces,
            errors=int(row.errors),
            first_at=_moment(row.first_ns),
            last_at=_moment(row.last_ns),
            input_tokens=int(row.input_tokens),
            output_tokens=int(row.output_tokens),
            cost_micros=int(row.cost_micros),
            seconds=float(row.took_ns) / 1e9,
        )
        for row in rows[:limit]
    )
    more = None
    if len(rows) > limit:
        end = rows[limit - 1]
        more = f"{end.last_ns if order == 'newest' else int(end.cost_micros)}-{end.key}"
    return GroupPage(shown, more)


def count_groups(
    traces: "Traces", *, by: GroupedBy, since: datetime, until: datetime, without: Collection[str] = ()
) -> int:
    """How many different values there are."""
    statement = select(func.count(func.distinct(trace.c[by]))).where(*_where(traces, since, until, without))
    with traces.database.reading() as connection:
        return int(connection.execute(statement).scalar_one())


def read_operations(
    traces: "Traces", *, since: datetime, until: datetime, without: Collection[str] = (), limit: int = 20
) -> tuple[Operation, ...]:
    """Steps by kind and name: the dearest first, then those that took longest."""
    # As for the line of a trace: what a caller above repeats of the sum does not count again.
    pays = (span.c.kind.in_(MODEL_KINDS)) | (and_(trace.c.model_spans == 0, span.c.span == trace.c.root))
    spent = func.sum(case((pays, span.c.cost_micros), else_=0))
    took = func.sum(span.c.duration_ns)
    statement = (
        select(
            span.c.kind,
            span.c.name,
            func.count().label("steps"),
            func.sum(case((span.c.status == "error", 1), else_=0)).label("errors"),
            func.sum(case((pays, span.c.input_tokens), else_=0)).label("input_tokens"),
            func.sum(case((pays, span.c.output_tokens), else_=0)).label("output_tokens"),
            spent.label("cost_micros"),
            took.label("took_ns"),
        )
        .join(trace, trace.c.id == span.c.trace_id)
        .where(*_where(traces, since, until, without))
        .group_by(span.c.kind, span.c.name)
        .order_by(spent.desc(), took.desc())
        .limit(limit)
    )
    with traces.database.reading() as connection:
        return tuple(
            Operation(
                kind=row.kind,
                name=row.name,
                count=row.steps,
                errors=int(row.errors),
                input_tokens=int(row.input_tokens),
                output_tokens=int(row.output_tokens),
                cost_micros=int(row.cost_micros),
                seconds=float(row.took_ns) / 1e9,
            )
            for row in connection.execute(statement)
        )


def read_arrivals(
    traces: "Traces", *, since: datetime, until: datetime, without: Collection[str] = (), at_once: int = 5000
) -> Iterator[Arrived]:
    """Every request in the order of arrival, read a few thousand at a time."""
    place: ColumnElement[bool] = true()
    while True:
        statement = (
            select(trace.c.id, trace.c.started_ns, trace.c.input_tokens, trace.c.output_tokens)
            .where(*_where(traces, since, until, without), place)
            .order_by(trace.c.started_ns, trace.c.id)
            .limit(at_once)
        )
        with traces.database.reading() as connection:
            rows = connection.execute(statement).all()
        for row in rows:
            yield Arrived(_moment(row.started_ns), row.input_tokens, row.output_tokens)
        if len(rows) < at_once:
            return
        place = tuple_(trace.c.started_ns, trace.c.id) > tuple_(rows[-1].started_ns, rows[-1].id)


def _where(
    traces: "Traces", since: datetime | None, until: datetime | None, without: Collection[str]
) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = [trace.c.project == traces.project]
    if since is not None:
        where.append(trace.c.started_ns >= _ns(since))
    if until is not None:
        where.append(trace.c.started_ns < _ns(until))
    if without:
        where.append(trace.c.channel.not_in(sorted(without)))
    return where


def _ns(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000) * 1000


def _moment(ns: int) -> datetime:
    return datetime.fromtimestamp(ns / 1e9, UTC)
