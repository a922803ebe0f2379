"""The shape of one trace, however many steps it has: narrow rows only, and the content of the few that are wanted."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select

from slipway.domain.ids import SpanId, TraceId
from slipway.domain.trace import Trace, TraceSummary
from slipway.store.schema import span, trace
from slipway.store.trace_writer import some_of

if TYPE_CHECKING:
    from slipway.store.traces import Traces


class Step(NamedTuple):
    """A step without what was said in it. Times are nanoseconds since 1970."""

    span: bytes
    parent: bytes | None
    name: str
    kind: str
    start_ns: int
    duration_ns: int
    status: str

    @property
    def id(self) -> SpanId:
        return SpanId(self.span.hex())


class Outline(NamedTuple):
    """Every step of a trace, the root first, then by start."""

    line: TraceSummary
    steps: list[Step]


def read_outline(traces: "Traces", trace_id: str) -> Outline:
    """Raises `NotFound`, `ContentErased`."""
    with traces.database.reading() as connection:
        row = connection.execute(select(trace).where(*traces._one(trace_id))).first()
        if row is None:
            raise traces._missing(connection, trace_id)
        columns = (span.c.span, span.c.parent, span.c.name, span.c.kind, span.c.start_ns, span.c.duration_ns)
        statement = select(*columns, span.c.status).where(span.c.trace_id == row.id)
        steps = [Step(*one) for one in connection.execute(statement.order_by(span.c.start_ns, span.c.span))]
        (line,) = traces._summaries(connection, [row])
    steps.sort(key=lambda step: step.span != row.root)
    return Outline(line, steps)


def read_steps(traces: "Traces", trace_id: str, wanted: Collection[str]) -> Trace:
    """The trace with its root and the wanted steps only. Raises `NotFound`, `ContentErased`."""
    from slipway.store.traces import _span

    with traces.database.reading() as connection:
        row = connection.execute(select(trace).where(*traces._one(trace_id))).first()
        if row is None:
            raise traces._missing(connection, trace_id)
        ids = {bytes.fromhex(one) for one in wanted if _is_hex(one)} | ({row.root} if row.root else set())
        rows = connection.execute(
            select(span).where(span.c.trace_id == row.id, span.c.span.in_(ids)).order_by(span.c.start_ns, span.c.span)
        ).all()
        if not rows:
            # Neither a root nor what was asked for: the first step stands for the whole.
            first = select(span).where(span.c.trace_id == row.id).order_by(span.c.start_ns, span.c.span).limit(1)
            rows = connection.execute(first).all()
            ids = {one.span for one in rows}
        said = {one.span: one for one in traces.said_in(connection, [row])[row.id] if one.span in ids}
    spans = [_span(one, row, traces.project, said.get(one.span)) for one in rows]
    spans.sort(key=lambda one: bytes.fromhex(one.span) != row.root)
    return Trace(id=TraceId(trace_id), spans=tuple(spans))


def read_many(traces: "Traces", ids: Sequence[str]) -> list[Trace]:
    """These traces in their order, read in one go; those that are not there are left out, erased ones are empty."""
    from slipway.store.traces import _span

    found: dict[str, Trace] = {}
    with traces.database.reading() as connection:
        for some in some_of([bytes.fromhex(id) for id in ids if _is_hex(id)]):
            where = (trace.c.project == traces.project, trace.c.trace.in_(some))
            rows = connection.execute(select(trace).where(*where)).all()
            steps: dict[int, list[Any]] = {row.id: [] for row in rows}
            statement = select(span).where(span.c.trace_id.in_(steps)).order_by(span.c.start_ns, span.c.span)
            for step in connection.execute(statement):
                steps[step.trace_id].append(step)
            said = traces.said_in(connection, rows)
            for row in rows:
                told = {one.span: one for one in said[row.id]}
                spans = [_span(step, row, traces.project, told.get(step.span)) for step in steps[row.id]]
                spans.sort(key=lambda one, root=row.root: bytes.fromhex(one.span) != root)  # type: ignore[misc]
                found[row.trace.hex()] = Trace(id=TraceId(row.trace.hex()), spans=tuple(spans))
    return [found[id] for id in ids if id in found]


def _is_hex(text: str) -> bool:
    try:
        bytes.fromhex(text)
    except ValueError:
        return False
    return True
