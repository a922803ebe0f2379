"""Traces to Parquet, one file a day, for DuckDB, pandas, Spark and the like: a copy to analyse, never the record."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from slipway.plugins import missing_package
from slipway.store.span_rows import OF_SPAN, OF_TRACE, SpanRow, span_rows
from slipway.store.store import Store

if TYPE_CHECKING:
    from pyarrow import Schema

DAY = timedelta(days=1)
WHOLE = frozenset({"start_ns", "duration_ns", "first_token_ns", "cost_micros"})


class DayFile(NamedTuple):
    """A file that was written, and how many spans it holds."""

    path: Path
    spans: int


def export_days(store: Store, folder: Path, *, since: date, until: date, content: bool = False) -> list[DayFile]:
    """Writes `spans-YYYY-MM-DD.parquet` for every day (UTC) from `since` to `until`, both included, that has traces.

    A row is a span, with what its whole trace knows: release, channel, environment, session, person. With `content`,
    what was said stands in the clear, as JSON. A file that is there is replaced as a whole. People who are erased later
    are still in files that were written before: write those days anew. Raises `PackageMissing` without the extra
    `analytics`.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as missing:
        raise missing_package("The Parquet export", missing) from missing
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    schema = _schema(content)
    written = []
    day = since
    while day <= until:
        path = folder / f"spans-{day:%Y-%m-%d}.parquet"
        unfinished = path.with_suffix(".part")
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        bounds = {"begin_ns": _ns(begin), "end_ns": _ns(begin + DAY)}
        count = 0
        try:
            with unfinished.open("wb") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
                unfinished.chmod(0o600)
                for rows in span_rows(store.traces, content=content, **bounds):
                    count += len(rows)
                    writer.write_batch(pa.RecordBatch.from_pylist([*_plain(rows, content)], schema))
            if count:
                unfinished.replace(path)
                written.append(DayFile(path, count))
        finally:
            unfinished.unlink(missing_ok=True)
        day += DAY
    return written


def _schema(content: bool) -> "Schema":
    import pyarrow as pa

    kinds: dict[str, Any] = {"start": pa.timestamp("ns", "UTC"), "usage_estimated": pa.bool_()}
    columns = [*OF_TRACE, *OF_SPAN, *(["content"] if content else [])]
    names = ["start" if name == "start_ns" else "index" if name == "knowledge" else name for name in columns]
    whole = {*WHOLE, *(name for name in OF_SPAN if name.endswith("_tokens"))}
    return pa.schema([(name, kinds.get(name, pa.int64() if name in whole else pa.string())) for name in names])


def _plain(rows: list[SpanRow], content: bool) -> Iterator[dict[str, Any]]:
    for columns, said in rows:
        row = dict(zip((*OF_TRACE, *OF_SPAN), columns, strict=True))
        for name in ("trace", "span", "parent"):
            row[name] = row[name].hex() if row[name] else None
        row["start"] = row.pop("start_ns")
        row["index"] = row.pop("knowledge")
        row["usage_estimated"] = bool(row["usage_estimated"])
        if content:
            row["content"] = None if said is None else msgspec.json.encode(said, enc_hook=str).decode()
        yield row


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000
