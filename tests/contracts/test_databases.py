"""What every database promises to the store: one schema, all-or-nothing writes, words that are found and forgotten."""

import asyncio
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError

from slipway.config.secrets import Secret
from slipway.domain.errors import StoreTooNew, StoreUnavailable
from slipway.store.databases.base import Database, databases
from slipway.store.migrations.run import known_versions, migrate
from slipway.store.opening import open_database
from slipway.store.schema import HEAD, metadata, setting
from slipway.store.store import open_store
from slipway.store.word_index import WordIndex

NAMES = itertools.count(1)


def url_of(kind: str, request: pytest.FixtureRequest, folder: Path) -> str:
    if kind == "sqlite":
        return f"sqlite:///{folder / f'{next(NAMES)}.db'}"
    # A schema of its own for each, because these tests look at all of it.
    server: str = request.getfixturevalue("postgres_url")
    name = f"contract{next(NAMES)}"
    database = Database(databases.make("postgres", {"url": server}))
    with database.transaction() as connection:
        connection.exec_driver_sql(f"create schema {name}")
    database.close()
    own = make_url(server).update_query_dict({"options": f"-c search_path={name}"})
    return own.render_as_string(hide_password=False)


@pytest.fixture(params=databases.names())
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return url_of(request.param, request, tmp_path)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = open_database(url)
    yield opened
    opened.close()


def schema_of(database: Database) -> dict[str, object]:
    """Tables, columns, keys and indexes as the database itself tells them."""
    looked = inspect(database.engine)
    tables = sorted(name for name in looked.get_table_names() if not name.startswith("sqlite_"))
    return {
        name: {
            "columns": [
                (column["name"], str(column["type"]), column["nullable"]) for column in looked.get_columns(name)
            ],
            "key": looked.get_pk_constraint(name)["constrained_columns"],
            "unique": sorted(str(unique["column_names"]) for unique in looked.get_unique_constraints(name)),
            "indexes": sorted(str(index["column_names"]) for index in looked.get_indexes(name)),
            "foreign": sorted(str(key["constrained_columns"]) for key in looked.get_foreign_keys(name)),
        }
        for name in tables
    }


def test_migrations_lead_to_the_same_schema_as_a_fresh_start(
    request: pytest.FixtureRequest, url: str, database: Database, tmp_path: Path
) -> None:
    other = Database(databases.make(_kind(url), {"url": url_of(_kind(url), request, tmp_path)}))
    with other.transaction() as connection:
        migrate(connection)
    try:
        assert schema_of(other) == schema_of(database)
        with other.reading() as connection:
            assert connection.execute(select(setting.c.name, setting.c.value)).all() == [("key_epoch", 0)]
    finally:
        other.close()


def test_head_is_the_newest_migration() -> None:
    assert known_versions()[0] == HEAD


def test_every_table_with_content_names_its_project_and_person() -> None:
    sealed = {"record", "record_part", "trace_page", "shared_page", "job"}
    for name in sealed:
        assert {"project", "subject", "body"} <= set(metadata.tables[name].columns.keys())


def test_an_older_database_is_migrated_when_it_is_opened(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = url_of("sqlite", request, tmp_path)
    database = Database(databases.make("sqlite", {"url": url}))
    with database.transaction() as connection:
        connection.execute(text("create table alembic_version (version_num varchar(32) not null)"))
    database.close()
    open_database(url).close()
    opened = open_database(url)
    assert "trace" in inspect(opened.engine).get_table_names()
    opened.close()


def test_a_database_of_a_newer_slipway_is_refused(url: str, database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    with pytest.raises(StoreTooNew, match="9999"):
        open_database(url)


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    def write_and_fail() -> None:
        with database.transaction() as connection:
            connection.execute(setting.insert().values(name="outer", value=1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    with database.reading() as connection:
        assert connection.execute(select(setting.c.name).where(setting.c.name == "outer")).first() is None


def test_a_failed_inner_transaction_takes_back_only_itself(database: Database) -> None:
    def write_and_fail() -> None:
        with database.transaction() as inner:
            inner.execute(setting.insert().values(name="inner", value=1))
            raise ZeroDivisionError

    with database.transaction() as connection:
        connection.execute(setting.insert().values(name="outer", value=1))
        with pytest.raises(ZeroDivisionError):
            write_and_fail()
    with database.reading() as connection:
        names = set(connection.execute(select(setting.c.name)).scalars())
    assert {"outer"} <= names
    assert "inner" not in names


def test_other_threads_do_not_see_what_is_not_committed(database: Database) -> None:
    seen: list[object] = []

    def look() -> None:
        with database.reading() as connection:
            seen.append(connection.execute(select(setting.c.name).where(setting.c.name == "half")).first())

    with database.transaction() as connection:
        connection.execute(setting.insert().values(name="half", value=1))
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    look()
    assert seen[0] is None
    assert seen[1] is not None


async def test_a_transaction_that_spans_an_await_is_noticed(database: Database) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def careless() -> None:
        with database.transaction() as connection:
            connection.execute(setting.insert().values(name="half", value=1))
            began.set()
            await ended.wait()

    task = asyncio.create_task(careless())
    await began.wait()
    # Another task of the same thread must neither write into it nor see what it has not committed.
    with pytest.raises(RuntimeError, match="must not span an await"), database.transaction():
        pass
    with database.reading() as connection:
        assert connection.execute(select(setting.c.name).where(setting.c.name == "half")).first() is None
    ended.set()
    await task


def test_a_reading_sees_one_state(database: Database) -> None:
    def count() -> int:
        return len(connection.execute(select(setting)).all())

    def add() -> None:
        with database.transaction() as other:
            other.execute(setting.insert().values(name="later", value=1))

    with database.reading() as connection:
        before = count()
        thread = threading.Thread(target=add)
        thread.start()
        thread.join()
        assert count() == before


def test_upsert_keeps_what_it_is_told_to_keep(database: Database) -> None:
    with database.transaction() as connection:
        for value in (1, 2):
            connection.execute(database.upsert(setting, ["name"]).values(name="changes", value=value))
            connection.execute(database.upsert(setting, ["name"], keep=["value"]).values(name="stays", value=value))
        found = {row.name: row.value for row in connection.execute(select(setting))}
    assert (found["changes"], found["stays"]) == (2, 1)


WORDS = [
    pytest.param(["tea"], {1, 2}, id="one word"),
    pytest.param(["milk", "tea"], {2}, id="every word must occur"),
    pytest.param(["te*"], {1, 2, 3}, id="a beginning"),
    pytest.param(["te"], set(), id="a beginning without a star is a word"),
    pytest.param(["東京"], {3}, id="letters beyond ASCII"),
    pytest.param(["coffee"], set(), id="a word that does not occur"),
    pytest.param(["or"], {4}, id="a word that search languages use"),
]


@pytest.mark.parametrize(("wanted", "traces"), WORDS)
def test_words_are_found(database: Database, wanted: list[str], traces: set[int]) -> None:
    index = WordIndex(database, "p")
    with database.transaction() as connection:
        index.add(connection, _lines("green tea", "milk tea", "東京 tee", "and not or"))
        assert _found(index, connection, wanted) == traces


def test_forgotten_words_are_not_found_any_more(database: Database) -> None:
    index = WordIndex(database, "p")
    with database.transaction() as connection:
        index.add(connection, _lines("green tea", "milk tea"))
        index.remove(connection, [1])
        assert _found(index, connection, ["tea"]) == {2}
        assert _found(index, connection, ["green"]) == set()
        index.clear(connection)
        assert _found(index, connection, ["tea"]) == set()


def _lines(*texts: str) -> list[tuple[int, list[str]]]:
    return [(number, [text]) for number, text in enumerate(texts, start=1)]


def _found(index: WordIndex, connection: Connection, words: list[str]) -> set[int]:
    return set(index.find(connection, words)[0].tolist())


def test_rows_are_written_as_they_are(database: Database) -> None:
    rows = [("odd", 1), ("tab\tnew\nline \\N", -(2**62)), ("über 'all' \\", 2**62)]
    with database.transaction() as connection:
        database.insert_rows(connection, setting, ("name", "value"), rows)
        stored = connection.execute(select(setting.c.name, setting.c.value)).all()
    assert {tuple(row) for row in stored} == {*rows, ("key_epoch", 0)}


def test_rows_that_are_there_already_are_refused_whole(database: Database) -> None:
    with pytest.raises(IntegrityError), database.transaction() as connection:
        database.insert_rows(connection, setting, ("name", "value"), [("new", 1), ("key_epoch", 2)])
    with database.reading() as connection:
        assert connection.execute(select(setting.c.name, setting.c.value)).all() == [("key_epoch", 0)]


def _kind(url: str) -> str:
    return "sqlite" if url.startswith("sqlite") else "postgres"


UNREACHABLE = [
    pytest.param("postgresql://someone:secret@127.0.0.1:1/nothing", "Start the server", id="no server listens"),
    pytest.param("sqlite:////proc/nowhere/store.db", "Check the folder", id="a folder that cannot be written"),
    pytest.param("sqlite://", "Name a file", id="a database in memory"),
]


@pytest.mark.parametrize(("url", "next_step"), UNREACHABLE)
def test_a_database_that_cannot_be_opened_says_what_to_do(url: str, next_step: str, tmp_path: Path) -> None:
    if url.startswith("postgresql"):
        pytest.importorskip("psycopg", reason="psycopg is not installed")
    with pytest.raises(StoreUnavailable, match=next_step) as caught:
        open_store(url, project="p", folder=tmp_path, master_key=Secret("00" * 32))
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"this is no database at all, but a text of some length\n" * 40)
    with pytest.raises(StoreUnavailable, match="no SQLite database"):
        open_database(f"sqlite:///{tmp_path / 'store.db'}")


def test_a_locked_database_says_who_to_wait_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.store.databases.sqlite.BUSY_TIMEOUT_MS", 50)
    url = f"sqlite:///{tmp_path / 'store.db'}"
    one, other = open_database(url), open_database(url)
    with one.transaction(), pytest.raises(StoreUnavailable, match="another process has held it"), other.transaction():
        pass
    one.close()
    other.close()


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    open_database(f"sqlite:///{tmp_path / 'store.db'}").close()
    assert (tmp_path / "store.db").stat().st_mode & 0o077 == 0
