"""Filters over raw attributes, which are sealed: traces are opened one by one until enough of them meet the filter."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from slipway.domain.trace import TracePage, TraceSummary
from slipway.domain.trace_filter import Filter
from slipway.store.trace_pages import Said
from slipway.store.trace_query import meets

MOST_OPENED = 2000
"""Traces that one page of a query about attributes opens at most: about a quarter of a second."""
AT_ONCE = 200
Open = Callable[[Sequence[Row[Any]]], Mapping[int, Sequence[Said]]]
"""What the spans of some lines of `trace` say, by the number of the line."""
Summarise = Callable[[Sequence[Row[Any]]], Sequence[TraceSummary]]


def list_by_content(
    rows: Sequence[Row[Any]], content: Sequence[Filter], limit: int, *, said_in: Open, summarise: Summarise
) -> TracePage:
    """Those of the lines whose raw attributes meet the filters, at most `limit`, among the first two thousand.

    `rows` holds one line more where there are more than two thousand.
    """
    found: list[Row[Any]] = []
    last: Row[Any] | None = None
    looked_at = rows[:MOST_OPENED]
    for begin in range(0, len(looked_at), AT_ONCE):
        some = looked_at[begin : begin + AT_ONCE]
        said = said_in(some)
        for row in some:
            if len(found) == limit:
                break
            last = row
            told: list[Mapping[str, Any]] = [attributes_of(one.content) for one in said[row.id]]
            if all(meets(one, told) for one in content):
                found.append(row)
        if len(found) == limit:
            break
    at_end = last is None or last is rows[-1]
    more = None if last is None or at_end else f"{last.started_ns}-{last.id}"
    return TracePage(rows=tuple(summarise(found)), next=more)


def attributes_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Raw attributes of a step, those of its process included."""
    told: dict[str, Any] = {}
    for key in ("resource", "attributes"):
        if isinstance(one := content.get(key), Mapping):
            told |= one
    return told
