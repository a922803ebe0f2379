"""The ingester: every acknowledged trace once in the store, whatever is killed, full or locked in between."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import event

from slipway.domain.errors import StoreUnavailable
from slipway.domain.ids import new_span_id, new_trace_id
from slipway.domain.trace import Span
from slipway.store.databases import sqlite
from slipway.store.journal import Journal, only_reader, segments
from slipway.store.store import Store
from slipway.tracing import ingest
from slipway.tracing.ingest import QUIET_PASSES, backlog, drain, main, next_pause, open_for_ingest, run
from slipway.tracing.recorder import Recorder, encode_spans, journal_sink


def record(store: Store, journal: Journal, count: int, *, project: str = "") -> None:
    recorder = Recorder(project=project or store.project, sink=journal_sink(journal))
    for number in range(count):
        with recorder.trace("answer") as trace, trace.span("chat", kind="chat") as span:
            span.set(model="m", input_tokens=1, content={"messages": [{"role": "user", "text": f"number {number}"}]})


def a_journal(store: Store, **settings: int) -> Journal:
    return Journal.open(store.journal_folder, worker="w", **settings)


def test_what_was_journalled_is_in_the_store_once(store: Store) -> None:
    journal = a_journal(store)
    record(store, journal, 3)
    done = drain(store)
    assert (done.records, done.spans, done.damaged, done.busy) == (3, 6, 0, False)
    assert drain(store).records == 0
    record(store, journal, 2)
    assert drain(store).spans == 4
    assert store.traces.count() == 5
    assert store.traces.count(text="number 2") == 1
    # A live segment stays, because its writer goes on.
    assert len(segments(store.journal_folder)) == 1


def test_what_was_taken_in_is_overwritten_in_the_journal(store: Store) -> None:
    journal = a_journal(store)
    record(store, journal, 3)
    (segment,) = segments(store.journal_folder)
    assert b"number 1" in segment.path.read_bytes()
    drain(store)
    assert b"number" not in segment.path.read_bytes()
    record(store, journal, 1)
    journal.close()
    assert drain(store).spans == 2
    assert store.traces.count() == 4


def test_segments_that_are_done_with_are_deleted(store: Store) -> None:
    journal = a_journal(store, segment_bytes=2000)
    record(store, journal, 20)
    assert len(segments(store.journal_folder)) > 3
    journal.sync()  # those that are full are closed by a thread
    drain(store)
    assert len(segments(store.journal_folder)) == 1
    journal.close()
    drain(store)
    assert segments(store.journal_folder) == []
    assert store.traces.count() == 20
    assert backlog(store).bytes == 0


def test_without_a_journal_there_is_nothing_to_do(store: Store) -> None:
    assert drain(store).records == 0
    assert backlog(store).segments == 0


def test_the_backlog_shows_how_far_behind_the_store_is(store: Store) -> None:
    journal = a_journal(store)
    record(store, journal, 1)
    behind = backlog(store)
    assert behind.segments == 1
    assert behind.bytes > 100
    drain(store)
    assert backlog(store).bytes == 0


def test_spans_go_to_their_own_project(store: Store) -> None:
    journal = a_journal(store)
    record(store, journal, 1)
    record(store, journal, 2, project="bulbs")
    assert drain(store).spans == 6
    assert (store.traces.count(), store.of("bulbs").traces.count()) == (1, 2)


def test_costs_are_filled_in(store: Store) -> None:
    journal = a_journal(store)
    span = Span(
        trace=new_trace_id(),
        span=new_span_id(),
        name="chat",
        kind="chat",
        start_ns=1_750_000_000_000_000_000,
        end_ns=1_750_000_000_000_000_000,
        project=store.project,
        provider="openai",
        model="gpt-4o-mini",
        input_tokens=1_000_000,
    )
    journal.append(encode_spans([span]))
    drain(store)
    assert store.traces.get(span.trace).root.cost_micros == 150_000


def test_records_that_are_no_spans_are_counted_and_left_out(store: Store) -> None:
    journal = a_journal(store)
    record(store, journal, 1)
    journal.append(b"\xc1 garbage")
    record(store, journal, 1)
    journal.close()
    done = drain(store)
    assert (done.spans, done.damaged) == (4, 1)
    # The count outlives the segment.
    assert backlog(store).damaged == 1


def test_one_trace_that_cannot_be_stored_does_not_hold_up_the_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = a_journal(store)
    record(store, journal, 3)
    real = type(store.traces).add
    poisoned: list[str] = []

    def add(self: object, spans: list[Span], calls: object = ()) -> int:
        poisoned.append(spans[0].trace) if not poisoned else None
        if any(span.trace == poisoned[0] for span in spans):
            raise RuntimeError("cannot be stored")
        return real(store.traces, spans)

    monkeypatch.setattr(type(store.traces), "add", add)
    done = drain(store)
    assert (done.spans, done.damaged) == (4, 2)
    assert drain(store).records == 0
    assert store.traces.count() == 2


@pytest.mark.parametrize("at_hand", [(2, 1 << 20), (100, 1)], ids=["by number", "by length"])
def test_what_was_written_before_a_failure_in_the_same_batch_is_not_doubled(
    store: Store, monkeypatch: pytest.MonkeyPatch, at_hand: tuple[int, int]
) -> None:
    monkeypatch.setattr(ingest, "AT_HAND", at_hand[0])
    monkeypatch.setattr(ingest, "AT_HAND_BYTES", at_hand[1])
    journal = a_journal(store)
    record(store, journal, 3)
    journal.append(b"\xc1 garbage")
    record(store, journal, 2)
    real, batches = type(store.traces).add, 0

    def add(self: object, spans: list[Span], calls: object = ()) -> int:
        nonlocal batches
        batches += 1
        if batches == 3:
            raise RuntimeError("cannot be stored")
        return real(store.traces, spans)

    monkeypatch.setattr(type(store.traces), "add", add)
    done = drain(store)
    assert (done.spans, done.damaged, store.traces.count()) == (10, 1, 5)
    assert batches > 3
    (point,) = store.traces.series(since=_year(2020), until=_year(2100), step_s=10**10)
    assert point.count == 5
    assert (drain(store).records, backlog(store).damaged) == (0, 1)


def test_a_failed_transaction_is_taken_in_by_the_next_pass(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = a_journal(store)
    record(store, journal, 3)

    def move(*_: object, **__: object) -> None:
        raise StoreUnavailable("store.db", "the disk is full", next_step="Free some space.")

    with monkeypatch.context() as patched:
        patched.setattr(type(store.positions), "move", move)
        with pytest.raises(StoreUnavailable):
            drain(store)
        assert store.traces.count() == 0
    assert drain(store).spans == 6
    (point,) = store.traces.series(since=_year(2020), until=_year(2100), step_s=10**10)
    assert point.count == 3


def test_a_locked_database_leaves_the_journal_as_it_is(application: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 50)
    with open_for_ingest(application) as store, closing(sqlite3.connect(store.folder / "store.db")) as other:
        journal = a_journal(store)
        record(store, journal, 3)
        other.isolation_level = None
        other.execute("begin immediate")
        with pytest.raises(StoreUnavailable, match="another process has held it"):
            drain(store)
        other.execute("rollback")
        assert store.traces.count() == 0
        assert drain(store).spans == 6
        assert store.traces.count(text="number 2") == 1


def test_a_full_disk_stores_nothing_by_half(application: Path) -> None:
    with open_for_ingest(application) as store:
        journal = a_journal(store)
        record(store, journal, 400)
        engine = store.database.engine
        with engine.connect() as connection:
            pages = connection.exec_driver_sql("pragma page_count").scalar_one()

        def limit(raw: sqlite3.Connection, _: object) -> None:
            raw.execute(f"pragma max_page_count = {pages + 5}")

        event.listen(engine, "connect", limit)
        engine.dispose()
        with pytest.raises(StoreUnavailable, match="disk is full"):
            drain(store)
        event.remove(engine, "connect", limit)
        engine.dispose()
        assert store.traces.count() == store.traces.count(text="number") == 0
        assert drain(store).spans == 800
        assert store.traces.count(text="number 399") == 1
        (point,) = store.traces.series(since=_year(2020), until=_year(2100), step_s=10**10)
        assert point.count == 400


def _year(year: int) -> datetime:
    return datetime(year, 1, 1, tzinfo=UTC)


def test_only_one_process_drains(store: Store) -> None:
    journal = a_journal(store)
    record(store, journal, 1)
    with only_reader(store.journal_folder):
        assert drain(store).busy
    assert drain(store).spans == 2


def test_the_loop_goes_on_after_a_failure_and_drains_before_it_ends(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = a_journal(store)
    record(store, journal, 1)
    pauses: list[float] = []
    failures = iter([True, True, False])
    real = drain

    def sometimes(*arguments: object, **settings: object) -> object:
        if next(failures, False):
            raise StoreUnavailable("store.db", "another process has held it", next_step="Wait.")
        return real(store)

    def stop() -> bool:
        return len(pauses) >= 3

    monkeypatch.setattr("slipway.tracing.ingest.drain", sometimes)
    total = run(store, stop=stop, idle_s=0.1, sleep=pauses.append)
    assert pauses == [0.2, 0.4, 0.1]
    assert total.spans == 2


@pytest.mark.parametrize("stored_before", [0, 200])
def test_kill_9_of_writer_and_ingester_neither_loses_nor_doubles(application: Path, stored_before: int) -> None:
    folder = application / ".slipway" / "journal"
    writer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import sys
                import time
                from pathlib import Path
                from slipway.store.journal import Journal
                from slipway.tracing.recorder import Recorder, journal_sink

                journal = Journal.open(Path(sys.argv[1]), worker="child", segment_bytes=20_000)
                recorder = Recorder(project="lamps", sink=journal_sink(journal))
                while True:
                    with recorder.trace("answer") as trace, trace.span("chat", kind="chat") as span:
                        span.set(content={"messages": [{"role": "user", "text": "hello " * 20}]})
                    sys.stdout.write(trace.trace_id + "\\n")
                    sys.stdout.flush()
                    time.sleep(0.001)
                """
            ),
            str(folder),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    ingester = subprocess.Popen([sys.executable, "-m", "slipway.tracing.ingest", str(application), "--idle", "0.01"])
    assert writer.stdout is not None
    acknowledged: list[str] = []
    try:
        with open_for_ingest(application) as store:
            for line in writer.stdout:
                acknowledged.append(line.strip())
                # Killed while both are at work, once before anything is stored.
                if len(acknowledged) % 50 == 0 and store.traces.count() >= stored_before:
                    break
    finally:
        os.kill(ingester.pid, signal.SIGKILL)
        os.kill(writer.pid, signal.SIGKILL)
        ingester.wait()
        acknowledged += [line for line in writer.stdout.read().split("\n")[:-1] if len(line) == 32]
        writer.wait()
        writer.stdout.close()
    with open_for_ingest(application) as store:
        drain(store)
        stored = store.traces.count()
        # At most the one trace whose acknowledgement was not said any more.
        assert len(acknowledged) <= stored <= len(acknowledged) + 1
        for id in acknowledged[:: max(1, len(acknowledged) // 20)]:
            assert len(store.traces.get(id).spans) == 2
        (point,) = store.traces.series(since=_year(2020), until=_year(2100), step_s=10**10)
        assert point.count == stored
        assert segments(folder) == []


def test_the_process_drains_when_it_is_told_to_stop(application: Path) -> None:
    with open_for_ingest(application) as store:
        journal = a_journal(store)
        record(store, journal, 5)
        process = subprocess.Popen([sys.executable, "-m", "slipway.tracing.ingest", str(application), "--idle", "60"])
        deadline = time.monotonic() + 60
        while store.traces.count() < 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        record(store, journal, 5)
        process.terminate()
        assert process.wait(60) == 0
        assert store.traces.count() == 10


def test_the_process_ends_with_its_parent(application: Path) -> None:
    # A shell starts the ingester and is killed: nobody is left to tell the ingester.
    shell = subprocess.Popen(
        ["sh", "-c", f"'{sys.executable}' -m slipway.tracing.ingest '{application}' --idle 0.05 & echo $!; wait"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert shell.stdout is not None
    ingester = int(shell.stdout.readline())
    deadline = time.monotonic() + 60
    while not (application / ".slipway" / "store.db").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    shell.kill()
    shell.wait()
    shell.stdout.close()
    while _alive(ingester) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(ingester)


def _alive(pid: int) -> bool:
    try:
        # A process that nobody waits for stays as a zombie: it has ended all the same.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_once_and_wrong_folders(application: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere"), "--once"]) == 2
    assert "slipway init" in capsys.readouterr().err


def test_the_next_look_waits_for_a_batch_that_is_worth_it() -> None:
    # Nothing or little: soon again. Traffic that keeps coming: up to five times as long. Behind: at once.
    assert [next_pause(records, idle_s=0.2) for records in (0, 1, 20, 60, 500, 5000)] == pytest.approx(
        [0.2, 0.2, 0.8, 2.0, 2.0, 0.2]
    )


def test_when_it_is_quiet_the_log_of_the_database_gives_its_space_back(store: Store) -> None:
    journal = a_journal(store)
    record(store, journal, 3)
    passes: list[float] = []
    run(store, stop=lambda: len(passes) > QUIET_PASSES + 1, sleep=passes.append)
    log = store.folder / "store.db-wal"
    assert log.stat().st_size == 0
    assert store.traces.count() == 3


def test_the_journal_goes_only_when_the_store_would_outlive_a_power_cut(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = a_journal(store)
    record(store, journal, 1)
    (segment,) = segments(store.journal_folder)
    synced: list[bool] = []
    settle = type(store.database.dialect).settle

    def settling(dialect: object) -> None:
        # Committed, and still in the journal.
        synced.append(store.traces.count() == 1 and b"number 0" in segment.path.read_bytes())
        settle(dialect)  # type: ignore[arg-type]

    monkeypatch.setattr(type(store.database.dialect), "settle", settling)
    drain(store)
    assert synced == [True]
    assert b"number 0" not in segment.path.read_bytes()


def test_a_disk_that_cannot_settle_keeps_the_journal(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = a_journal(store)
    record(store, journal, 1)
    (segment,) = segments(store.journal_folder)

    def broken(_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(type(store.database.dialect), "settle", broken)
        with pytest.raises(OSError, match="Input/output"):
            drain(store)
    assert b"number 0" in segment.path.read_bytes()
    drain(store)
    assert store.traces.count() == 1
