"""Traces that an older Slipway stored: after the migration they are read, listed, found and removed like all others."""

from pathlib import Path

import msgspec
import pytest
import zstandard
from sqlalchemy import column as named
from sqlalchemy import insert, table, text

from slipway.config.secrets import Secret
from slipway.domain.errors import NotFound
from slipway.store.databases.base import Database, databases
from slipway.store.encryption import Keys, master_key_bytes
from slipway.store.migrations.run import migrate
from slipway.store.opening import open_database
from slipway.store.schema import span, trace
from slipway.store.store import open_store

MASTER = Secret("0f" * 32)
TRACE, SPAN = "ab" * 16, "cd" * 8


def old_store(url: str) -> None:
    """What the first version wrote: a page for each trace, its words in a full-text table."""
    database = Database(databases.make("sqlite", {"url": url}))
    with database.transaction() as connection:
        migrate(connection, to="0001")
    keys = Keys(database, "lamps", master_key_bytes(MASTER))
    keys.check_master("here")
    content = {"question": "Where is my parcel?"}
    page = zstandard.compress(msgspec.msgpack.encode([[bytes.fromhex(SPAN), "", content]]))
    texts = {column.name: "" for column in trace.columns if str(column.type) == "TEXT"}
    numbers = {column.name: 1 for column in trace.columns if str(column.type) in ("INTEGER", "BIGINT")}
    numbers.pop("page")
    with database.transaction() as connection:
        line = {**numbers, **texts, "project": "lamps", "trace": bytes.fromhex(TRACE), "root": bytes.fromhex(SPAN)}
        line |= {"status": "ok", "kind": "request", "subject": "anna", "verdicts": "{}"}
        line["preview"] = keys.seal(connection, b"Where is my parcel?", subject="anna", kind="preview", id=TRACE)
        connection.execute(insert(table("trace", *map(named, line))).values(line))
        row = {column.name: "" if str(column.type) == "TEXT" else 1 for column in span.columns}
        row |= {"span": bytes.fromhex(SPAN), "parent": None, "status": "ok", "kind": "request", "verdicts": "{}"}
        connection.execute(insert(table("span", *map(named, row))).values(row))
        body = keys.seal(connection, page, subject="anna", kind="trace", id=TRACE)
        connection.execute(
            text(
                "insert into trace_page (id, trace_id, project, subject, indexed, body)"
                " values (1, 1, 'lamps', 'anna', 1, :body)"
            ).bindparams(body=body)
        )
        connection.execute(text("insert into trace_words (rowid, words) values (1, 'is my parcel where')"))
    database.close()


def test_they_are_there_after_the_migration(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    old_store(url)
    open_database(url).close()
    with open_store(url, project="lamps", folder=tmp_path, master_key=MASTER) as store:
        assert store.traces.get(TRACE).root.content == {"question": "Where is my parcel?"}
        (row,) = store.traces.list(subject="anna").rows
        assert row.preview == "Where is my parcel?"
        store.traces.rebuild_words_if_needed()
        assert store.traces.count(text="parcel") == 1
        store.traces.remove([TRACE])
        assert store.traces.count(text="parcel") == 0
        with pytest.raises(NotFound):
            store.traces.get(TRACE)
    assert b"parcel" not in (tmp_path / "store.db").read_bytes()
