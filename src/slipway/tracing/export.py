"""Traces to files and back, as OTLP JSON: one request a line, one trace a request."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from slipway.domain.errors import FileBroken, FileMissing, OtlpRefused
from slipway.domain.trace import Trace
from slipway.store.store import Store
from slipway.wire.otlp import decode_traces, encode_traces
from slipway.wire.otlp_raw import JSON


class Imported(NamedTuple):
    """What an import did. `spans` counts new ones; those that were there already are not counted."""

    lines: int
    spans: int
    rejected: int


def all_traces(store: Store, **filters: Any) -> Iterator[Trace]:
    """Every trace that meets the filters of `store.traces.list`, newest first."""
    after: str | None = None
    while True:
        page = store.traces.list(**filters, limit=200, after=after)
        for row in page.rows:
            yield store.traces.get(row.id)
        if page.next is None:
            return
        after = page.next


def export_lines(traces: Iterable[Trace], *, service: str) -> Iterator[str]:
    """One line a trace, without its line end. Every OpenTelemetry collector reads such a file."""
    for trace in traces:
        yield encode_traces(trace.spans, service=service).decode()


def export_file(store: Store, path: Path, **filters: Any) -> int:
    """Writes the traces that meet the filters to a file and returns their number. Content is in the clear there."""
    count = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        path.chmod(0o600)
        for line in export_lines(all_traces(store, **filters), service=store.project):
            file.write(line + "\n")
            count += 1
    return count


def import_file(store: Store, path: Path) -> Imported:
    """Takes in every line of a file, a batch at a time; importing it twice changes nothing.

    Raises `FileMissing`, and `FileBroken` with the line that is no OTLP JSON; lines before it are taken in.
    """
    if not path.is_file():
        raise FileMissing(path)
    lines = new = rejected = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                decoded = decode_traces(line, JSON, project=store.project)
            except OtlpRefused as wrong:
                raise FileBroken(path, f"line {number}: {wrong.reason}") from wrong
            lines += 1
            rejected += decoded.rejected
            new += store.traces.add(decoded.spans)
    return Imported(lines, new, rejected)
