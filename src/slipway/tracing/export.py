"""Traces to files and back, as OTLP JSON lines: one request a line, one trace a request, plain or gzip."""

import gzip
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from slipway.domain.errors import DiskFull, FileBroken, FileMissing, OtlpRefused
from slipway.domain.trace import Trace
from slipway.store.store import Store
from slipway.tracing.intake import take_in
from slipway.wire.otlp import Decoded, decode_logs, decode_traces, encode_traces
from slipway.wire.otlp_raw import JSON


class Imported(NamedTuple):
    """What an import did. `spans` counts new ones; those that were there already are not counted."""

    lines: int
    spans: int
    rejected: int
    events: int = 0
    """Log records that name a span, as a collector writes them beside traces."""


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
    """Writes the traces that meet the filters to a file and returns their number. Content is in the clear there.

    A name that ends in .gz is compressed. The file is there when it is whole, and not before. Raises `DiskFull`.
    """
    count = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    handle = os.open(unfinished, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    try:
        with _opened(os.fdopen(handle, "wb"), path) as file:
            for line in export_lines(all_traces(store, **filters), service=store.project):
                file.write(line.encode() + b"\n")
                count += 1
        unfinished.replace(path)
    except OSError as wrong:
        raise DiskFull(path) from wrong
    finally:
        unfinished.unlink(missing_ok=True)
    return count


def import_file(store: Store, path: Path) -> Imported:
    """Takes in every line of a file; importing it twice changes nothing.

    Lines are requests to /v1/traces or /v1/logs, as collectors write them too; what is about metrics is passed over.
    Raises `FileMissing`, and `FileBroken` with the line that is no OTLP JSON; lines before it are taken in.
    """
    if not path.is_file():
        raise FileMissing(path)
    lines = new = rejected = events = 0
    with _opened(path.open("rb"), path) as file:
        try:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    decoded = _decoded(line, store.project)
                except OtlpRefused as wrong:
                    raise FileBroken(path, f"line {number}: {wrong.reason}") from wrong
                lines += 1
                rejected += decoded.rejected
                events += len(decoded.events)
                new += take_in(store, decoded.spans, decoded.events)
        except (EOFError, gzip.BadGzipFile) as wrong:
            raise FileBroken(path, f"after line {lines}: {wrong}") from wrong
    return Imported(lines, new, rejected, events)


@contextmanager
def _opened(file: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    with file:
        if path.suffix != ".gz":
            yield file
            return
        with gzip.open(file, "wb" if file.writable() else "rb") as packed:
            yield cast("IO[bytes]", packed)


def _decoded(line: bytes, project: str) -> Decoded:
    # Which of the three it is stands at the beginning of the line.
    start = line[:200]
    if b'"resourceLogs"' in start:
        return decode_logs(line, JSON, project=project)
    if b'"resourceMetrics"' in start:
        return Decoded()
    return decode_traces(line, JSON, project=project)
