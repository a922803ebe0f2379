"""Empties the journal into the store: one process at a time, each record once, whatever is killed in between."""

import argparse
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from slipway.config.reader import load_settings
from slipway.config.secrets import read_secret
from slipway.domain.errors import DiskFull, SlipwayError, StoreError
from slipway.domain.trace import Span, SpanEvent
from slipway.store.call_records import CallRow, span_of
from slipway.store.journal import Payload, Segment, only_reader, overwrite, read_segment, segments
from slipway.store.lone_calls import read_calls
from slipway.store.store import Store, open_store
from slipway.tracing.cost import PriceOf, catalog_price
from slipway.tracing.intake import decode_record, take_in

BATCH_BYTES = 17 << 20
"""Of the journal in one transaction: a whole segment, which then need not be overwritten before it is deleted."""
BATCH_RECORDS = 8000
"""Of them at most so many, which bounds what is in memory and how long others wait to write."""
QUIET_PASSES = 25
"""So many looks without a record, five seconds, and the database gets time to tidy up."""
FORGET_EVERY_S = 3600.0
LONGEST_PAUSE_S = 10.0
"""Between two looks while the store fails."""
AT_HAND, AT_HAND_BYTES = 2000, 3 << 20
"""Records that are read and written before the next are looked at, and about how long they are together."""
A_FEW = 5
MANY = 2000
"""Records of one pass from which on there is no time to wait."""
log = logging.getLogger("slipway.ingest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What one pass over the journal did. `busy`: another process is at it."""

    records: int = 0
    spans: int = 0
    damaged: int = 0
    busy: bool = False

    def __add__(self, other: "Drained") -> "Drained":
        return Drained(
            records=self.records + other.records,
            spans=self.spans + other.spans,
            damaged=self.damaged + other.damaged,
            busy=self.busy or other.busy,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What the journal holds that the store does not yet: segments and bytes. `damaged` records were left out."""

    segments: int
    bytes: int
    damaged: int


def drain(store: Store, *, price_of: PriceOf = catalog_price, wait_s: float = 0.0) -> Drained:
    """Takes in everything that was journalled until now; segments that are done with are deleted.

    The position in a segment is written in the same transaction as its spans: nothing is doubled, nothing is lost.
    When another process holds the journal, `wait_s` is how long to wait for it. Raises `StoreUnavailable`; then the
    journal stays as it is.
    """
    folder = store.journal_folder
    if not folder.is_dir():
        return Drained()
    with only_reader(folder, wait_s=wait_s) as free:
        if not free:
            return Drained(busy=True)
        done = Drained()
        for segment in segments(folder):
            done += _drain_segment(store, segment, price_of)
        return done


def backlog(store: Store) -> Backlog:
    """For /metrics and `slipway doctor`: how far behind the store is."""
    waiting = [(segment.bytes, store.positions.of(segment.name)) for segment in segments(store.journal_folder)]
    behind = [size - position for size, position in waiting if size > position]
    return Backlog(segments=len(waiting), bytes=sum(behind), damaged=store.positions.damaged())


def run(
    store: Store,
    *,
    stop: Callable[[], bool],
    idle_s: float = 0.2,
    sleep: Callable[[float], object] = time.sleep,
) -> Drained:
    """Drains again and again until `stop` says so, then once more. A store that fails is tried again, ever slower."""
    total, pause, quiet, forget_at = Drained(), idle_s, 0, time.monotonic()
    while not stop():
        try:
            pass_ = drain(store)
            if time.monotonic() >= forget_at:
                store.span_events.forget()
                forget_at += FORGET_EVERY_S
        except (StoreError, DiskFull, OSError) as wrong:
            log.warning("the journal waits: %s", wrong)
            pause = min(pause * 2, LONGEST_PAUSE_S)
        else:
            total += pass_
            pause = next_pause(pass_.records, idle_s=idle_s)
            quiet = 0 if pass_.records else quiet + 1
            if quiet == QUIET_PASSES and total.records:
                store.database.dialect.tidy(store.database.engine)
        sleep(pause)
    try:
        return total + drain(store, wait_s=2.0)
    except (StoreError, DiskFull, OSError) as wrong:
        log.warning("the journal stays until the next start: %s", wrong)
        return total


def next_pause(records: int, *, idle_s: float) -> float:
    """Seconds until the next look at the journal, after one that found so many records.

    A batch costs as much as dozens of records in it, and where there is one core for all, a request that comes
    meanwhile waits for it. Where somebody tries things out, the next trace is wanted soon; in traffic that keeps
    coming, waiting up to ten times as long makes batches that are worth their cost.
    """
    return idle_s * min(10.0, max(1.0, records / A_FEW)) if records < MANY else idle_s


def _drain_segment(store: Store, segment: Segment, price_of: PriceOf) -> Drained:
    done = Drained()
    position = store.positions.of(segment.name)
    while True:
        reading = read_segment(segment, position, most_bytes=BATCH_BYTES, most_records=BATCH_RECORDS)
        if reading.records or reading.damaged or reading.end != position:
            done += _take_in(store, segment, reading.records, reading.end, reading.damaged, price_of)
            # The journal was synced before its sender was told; it may go only when the store outlives a power cut too.
            store.database.dialect.settle()
            if not reading.finished:
                overwrite(segment, position, reading.end)
        if reading.finished:
            # Deleted after its spans are in; a crash in between only means that an empty rest is read again.
            segment.path.unlink(missing_ok=True)
            store.positions.forget(segment.name)
            return done
        if reading.end == position:
            return done
        position = reading.end


def _take_in(
    store: Store,
    segment: Segment,
    records: Sequence[Payload],
    end: int,
    unreadable: int,
    price_of: PriceOf,
) -> Drained:
    new, damaged = 0, unreadable
    try:
        with store.transaction():
            # What is looked at again soon after it was made is still at hand: some at a time cost a fifth less.
            for some in _portions(records):
                come = _read(some)
                damaged += come.damaged
                new += take_in(store, come.spans, come.events, calls=come.calls, price_of=price_of)
            store.positions.move(segment.name, end, damaged=damaged)
    except SlipwayError:
        raise
    except Exception as wrong:
        if (failed := store.database.failure(wrong)) is not None:
            raise failed from wrong
        # One span that the store cannot take must not hold up all others for ever: they go in one by one.
        log.exception("a batch of %d records was refused", len(records))
        come = _read(records)
        new, refused = _one_by_one(store, [*come.spans, *map(span_of, come.calls)], come.events, price_of)
        damaged = unreadable + come.damaged + refused
        store.positions.move(segment.name, end, damaged=damaged)
    return Drained(records=len(records), spans=new, damaged=damaged)


def _portions(records: Sequence[Payload]) -> Iterator[Sequence[Payload]]:
    begin = size = 0
    for at, record in enumerate(records, 1):
        size += len(record)
        if at - begin >= AT_HAND or size >= AT_HAND_BYTES:
            yield records[begin:at]
            begin, size = at, 0
    if begin < len(records):
        yield records[begin:]


class _Read(NamedTuple):
    """What records hold; `damaged` of them hold nothing that can be read."""

    calls: list[CallRow]
    spans: list[Span]
    events: list[SpanEvent]
    damaged: int


def _read(records: Sequence[Payload]) -> _Read:
    calls, others = read_calls(records)
    spans: list[Span] = []
    events: list[SpanEvent] = []
    damaged = 0
    for payload in others:
        try:
            some, told = decode_record(payload)
        except ValueError:
            damaged += 1
        else:
            spans += some
            events += told
    return _Read(calls, spans, events, damaged)


def _one_by_one(store: Store, spans: Sequence[Span], events: Sequence[SpanEvent], price_of: PriceOf) -> tuple[int, int]:
    """(taken in, refused). Spans of the same trace and batch go together, so that what belongs together stays so."""
    traces: dict[tuple[str, str], tuple[list[Span], list[SpanEvent]]] = {}
    for span in spans:
        traces.setdefault((span.project, span.trace), ([], []))[0].append(span)
    for event in events:
        traces.setdefault((event.project, event.trace), ([], []))[1].append(event)
    new = refused = 0
    for (_, trace), (members, told) in traces.items():
        try:
            new += take_in(store, members, told, price_of=price_of)
        except SlipwayError:
            raise
        except Exception as wrong:
            if (failed := store.database.failure(wrong)) is not None:
                raise failed from wrong
            log.exception("trace %s was refused", trace)
            refused += len(members) + len(told)
    return new, refused


def calm_collector() -> None:
    """What was taken in is let go of without the collector's help: it looks seldom, and never at what stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def open_for_ingest(folder: Path) -> Store:
    """The store of the application in `folder`, without the rest of its workspace."""
    settings = load_settings(folder)
    state = folder / ".slipway"
    url = settings.store.url
    if url.startswith(("env:", "file:")):
        url = read_secret(url, place="[store] url", folder=folder).reveal()
    return open_store(
        url or f"sqlite:///{state / 'store.db'}",
        project=settings.application.name,
        folder=state,
        master_key=read_secret(settings.privacy.master_key, place="[privacy] master_key", folder=folder),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m slipway.tracing.ingest FOLDER`: the process that the server starts beside itself."""
    parser = argparse.ArgumentParser(prog="slipway.tracing.ingest", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the application")
    parser.add_argument("--once", action="store_true", help="drain what is there and end")
    parser.add_argument("--idle", type=float, default=0.2, help="seconds between looks at the journal")
    parser.add_argument(
        "--parent", type=int, help="process that this one ends with; the one that started it, if not given"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    parent, stopped = options.parent or os.getppid(), threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()

    try:
        store = open_for_ingest(options.folder.resolve())
    except SlipwayError as wrong:
        sys.stderr.write(f"{wrong}\n")
        return wrong.exit_code
    with store:
        if options.once:
            drain(store, wait_s=10.0)
            return 0
        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
        # Answers come first: the ingester takes what the machine has left. Only from here on, because a busy machine
        # would keep a process that starts at low priority from ever getting ready to empty the journal.
        os.nice(10)
        calm_collector()
        try:
            store.traces.rebuild_words_if_needed()
        except StoreError as wrong:
            log.warning("older traces are not found by their words yet: %s", wrong)
        # A server that was killed cannot tell its ingester; the ingester sees that it was handed to another parent,
        # even where that happened while it was starting, because it was told whose child it is.
        run(
            store,
            stop=lambda: stopped.is_set() or os.getppid() != parent,
            idle_s=options.idle,
            sleep=stopped.wait,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
