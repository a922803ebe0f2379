"""What many traces say, opened in one go: for filters over raw attributes and for numbers that only content tells."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, Row, Select

from slipway.domain.trace import TracePage
from slipway.store.trace_query import Parts, meets
from slipway.store.trace_writer import some_of

if TYPE_CHECKING:
    from slipway.store.traces import Traces

MOST_OPENED = 2000
"""Traces that one page of a query about attributes opens at most: about a quarter of a second."""


class Opened(NamedTuple):
    """A line of `trace` and what its spans say, by span; empty when its person was erased."""

    row: Row[Any]
    said: Mapping[bytes, Mapping[str, Any]]


def open_contents(traces: "Traces", connection: Connection, rows: Sequence[Row[Any]]) -> Iterator[Opened]:
    """The contents of these lines, in their order, a few hundred opened at a time."""
    for some in some_of(rows):
        said = traces.said_in(connection, some)
        yield from (Opened(row, {one.span: one.content for one in said[row.id]}) for row in some)


def list_by_content(
    traces: "Traces", connection: Connection, parts: Parts, statement: Select[Any], limit: int
) -> TracePage:
    """The lines of a statement whose raw attributes meet `parts.content`, among the first two thousand."""
    rows = connection.execute(statement.limit(MOST_OPENED + 1)).all()
    found: list[Row[Any]] = []
    last: Row[Any] | None = None
    for opened in open_contents(traces, connection, rows[:MOST_OPENED]):
        if len(found) == limit:
            break
        last = opened.row
        told: list[Mapping[str, Any]] = [attributes_of(content) for content in opened.said.values()]
        if all(meets(one, told) for one in parts.content):
            found.append(opened.row)
    at_end = last is None or last is rows[-1]
    shown = tuple(traces._summaries(connection, found))
    return TracePage(rows=shown, next=None if last is None or at_end else f"{last.started_ns}-{last.id}")


def attributes_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Raw attributes of a step, those of its process included."""
    told: dict[str, Any] = {}
    for key in ("resource", "attributes"):
        if isinstance(one := content.get(key), Mapping):
            told |= one
    return told
