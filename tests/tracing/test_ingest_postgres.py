"""The ingester over a real Postgres: what it may not lose when the server is killed, and what it may not give up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.config.secrets import Secret
from slipway.domain.errors import StoreUnavailable
from slipway.domain.ids import new_span_id, new_trace_id
from slipway.domain.trace import Span
from slipway.store.journal import Journal
from slipway.store.store import Store, open_store
from slipway.tracing.ingest import drain, run
from slipway.tracing.recorder import encode_spans

psycopg = pytest.importorskip("psycopg", reason="the extra 'postgres' is not installed")
NOON = 1_780_000_000_000_000_000


@pytest.fixture
def store(own_postgres_url: str, tmp_path: Path) -> Iterator[Store]:
    with open_store(own_postgres_url, project="lamps", folder=tmp_path, master_key=Secret("0f" * 32)) as opened:
        yield opened


def a_call(number: int, **fields: Any) -> Span:
    begin = NOON + number * 1_000_000
    defaults: dict[str, Any] = {"name": "chat", "kind": "chat", "status": "ok", "project": "lamps", "model": "m"}
    content = {"messages": [{"role": "user", "text": f"number {number} of many"}]}
    defaults |= {"start_ns": begin, "end_ns": begin + 1_000_000, "content": content}
    return Span(trace=new_trace_id(), span=new_span_id(), **(defaults | fields))


def test_a_server_that_is_killed_again_and_again_loses_and_doubles_nothing(store: Store, own_postgres: Any) -> None:
    """It is set to tell of a commit before it lies on the disk, where the journal is given up at the commit."""
    ended = threading.Event()
    ingester = threading.Thread(target=run, args=(store,), kwargs={"stop": ended.is_set, "idle_s": 0.02})
    ingester.start()
    written: list[str] = []
    try:
        with Journal.open(store.journal_folder, worker="w", segment_bytes=20_000) as journal:
            for _ in range(4):
                until = time.monotonic() + 1.0
                while time.monotonic() < until:
                    spans = [a_call(len(written) + number) for number in range(20)]
                    for span in spans:
                        journal.append(encode_spans([span]))
                    written += [span.trace for span in spans]
                    time.sleep(0.01)
                own_postgres.kill()
                own_postgres.start()
    finally:
        ended.set()
        ingester.join(60)
    drain(store, wait_s=30)
    with store.database.reading() as connection:
        rows = connection.exec_driver_sql("select trace from trace join span on trace_id = trace.id").all()
    assert sorted(bytes(row.trace).hex() for row in rows) == sorted(written)
    assert store.positions.damaged() == 0


REFUSAL = """
create function refuse() returns trigger language plpgsql as
$$ begin raise exception 'not now' using errcode = '{code}'; end $$;
create trigger refuse before insert on {table} for each row execute function refuse()
"""
CODES = [
    pytest.param("25006", id="it only follows another server"),
    pytest.param("58030", id="its disk cannot be read"),
    pytest.param("53100", id="its disk is full"),
    pytest.param("40001", id="it rolls back"),
    pytest.param("57014", id="it cancels"),
    pytest.param("42501", id="a right is missing"),
    pytest.param("XX001", id="a page is damaged"),
    pytest.param("0A000", id="a code that nobody thought of"),
]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("table", ["trace", "rollup"])
def test_what_is_the_servers_fault_is_tried_again_and_no_record_is_given_up(
    store: Store, own_postgres_url: str, code: str, table: str
) -> None:
    with Journal.open(store.journal_folder, worker="w") as journal:
        journal.append(encode_spans([a_call(number) for number in range(50)]))
    with psycopg.connect(own_postgres_url, autocommit=True) as other:
        other.execute(REFUSAL.format(code=code, table=table))
        with pytest.raises(StoreUnavailable, match="not now"):
            drain(store)
        other.execute(f"drop trigger refuse on {table}")
    assert drain(store).spans == 50
    assert store.positions.damaged() == 0


def test_records_that_the_server_cannot_take_do_not_hold_up_the_others(store: Store, own_postgres_url: str) -> None:
    with Journal.open(store.journal_folder, worker="w") as journal:
        for number in range(5):
            journal.append(encode_spans([a_call(number, finish="odd" if number == 2 else "stop")]))
    with psycopg.connect(own_postgres_url, autocommit=True) as other:
        other.execute("alter table span add check (finish <> 'odd')")
    assert (drain(store).spans, store.positions.damaged()) == (4, 1)
    assert drain(store).records == 0


def test_odd_texts_are_stored_as_they_are(store: Store) -> None:
    odd = ["back\\slash", "\\N", "\\.", "per % cent %s", "quote ' and \"", "naïve ☃ 🧨", "a\ttab\nand\rmore", ""]
    spans = [a_call(number, name=f"chat {text}", finish=text, error=text) for number, text in enumerate(odd)]
    with Journal.open(store.journal_folder, worker="w") as journal:
        for span in spans:
            journal.append(encode_spans([span]))
    assert drain(store).spans == len(odd)
    for span in spans:
        (found,) = store.traces.get(span.trace).spans
        assert (found.name, found.finish, found.error) == (span.name, span.finish, span.error)
